use std::path::{Path, PathBuf};
use std::time::Duration;

use tandem_api::{CallEndpoint, CallRequest, CallResult, CallSummary, EchoRequest, Problem};
use tandem_node::messages::Code;
use tandem_node::platform::{files, paths};
use tandem_node::store::ContactError;
use tandem_proto::identity::Link;

use super::{Place, log, runtime};
use crate::cli::{CallArgs, CallSettings, EchoArgs};
use crate::client::{Client, path_part};
use crate::output::{self, Exit};
use crate::session::{self, Follower, Order};

/// What the test call plays when it is given nothing.
const PASSAGE: &[u8] = include_bytes!("../../../../assets/speech/alice.wav");
const ECHO_DEFAULT: Duration = Duration::from_secs(5);

pub(super) fn run(place: &Place, args: &CallArgs) -> Result<Exit, Problem> {
    check_address(&args.address)?;
    let request = CallRequest {
        address: args.address.clone(),
        play: args.play.as_deref().map(path_text),
        record: args.record.as_deref().map(path_text),
        for_ms: args.for_time.map(millis),
        redundancy: args.settings.redundancy.map(Into::into),
        relay_only: args.settings.relay_only,
        endpoint: if args.echo { CallEndpoint::Echo } else { CallEndpoint::File },
    };
    follow(place, Order::Call(request), &args.settings, args.why)
}

/// A mistyped address is found out before a node is asked, or started.
fn check_address(text: &str) -> Result<(), Problem> {
    if !text.trim_start().to_lowercase().starts_with("tandem:") {
        return Ok(());
    }
    let checked: Result<Link, _> = text.parse();
    // The secret of an invitation is not repeated.
    let address = text.split('?').next().unwrap_or_default();
    let problem = |error| ContactError::Address { address: address.to_owned(), error }.problem();
    checked.map(drop).map_err(problem)
}

pub(super) fn echo(place: &Place, args: &EchoArgs) -> Result<Exit, Problem> {
    let play = match &args.play {
        Some(play) => play.clone(),
        None => passage(place)?,
    };
    let request = EchoRequest {
        play: Some(path_text(&play)),
        record: args.record.as_deref().map(path_text),
        for_ms: Some(millis(args.for_time.unwrap_or(ECHO_DEFAULT))),
        endpoint: CallEndpoint::File,
    };
    follow(place, Order::Echo(request), &args.settings, false)
}

/// Answers, declines or hangs up.
pub(super) fn act(place: &Place, call: Option<String>, action: &str) -> Result<Exit, Problem> {
    let client = Client::require(&place.data)?;
    let call = call.unwrap_or_else(|| "current".to_owned());
    let summary: CallSummary = client.post_empty(&format!("/api/calls/{}/{action}", path_part(&call)))?;
    output::either(place.json, &summary, |summary| {
        let who = summary.name.as_deref().unwrap_or(&summary.address);
        match action {
            "answer" => format!("Answered {who}."),
            "decline" => format!("Declined {who}."),
            _ => format!("Hung up on {who}."),
        }
    });
    Ok(Exit::Done)
}

fn follow(place: &Place, order: Order, settings: &CallSettings, why: bool) -> Result<Exit, Problem> {
    let follower = Follower::new(place.json, why);
    let result = match Client::find(&place.data) {
        Ok(Some(client)) => session::through(&client, &order, follower),
        Ok(None) => alone(place, order, settings, follower),
        Err(problem) => Err(problem),
    };
    let result = match result {
        Ok(result) => result,
        Err(problem) => {
            if !place.json {
                return Err(problem);
            }
            // The last line is a result, whatever happened.
            output::problem(&problem, true);
            let result = CallResult { why: problem.to_string(), ..CallResult::default() };
            output::json(&result);
            return Ok(Exit::NoSound);
        }
    };
    output::either(place.json, &result, session::summary);
    let sound = result.connected && result.packets.received > 0;
    Ok(if sound { Exit::Done } else { Exit::NoSound })
}

fn alone(
    place: &Place,
    order: Order,
    settings: &CallSettings,
    follower: Follower,
) -> Result<CallResult, Problem> {
    let config = place.node_config(&settings.flags(), false)?;
    let _log = log(&config.config.log, Some(&place.data))?;
    runtime()?.block_on(session::alone(config, order, follower))
}

/// The bundled passage as a file the node can read.
fn passage(place: &Place) -> Result<PathBuf, Problem> {
    let path = place.data.join("echo-passage.wav");
    let written = tandem_node::installation::ensure_folder(&place.data)
        .map_err(|error| error.problem())
        .and_then(|()| {
            files::replace(&path, PASSAGE).map_err(|error| {
                Code::SoundFile.with(&[("path", &path.display().to_string()), ("detail", &error.to_string())])
            })
        });
    written.map(|()| path)
}

/// The node may have another working folder than this command.
fn path_text(path: &Path) -> String {
    paths::absolute(path).display().to_string()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
