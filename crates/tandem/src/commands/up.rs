use std::time::Duration;

use tandem_api::{Problem, Ready};
use tandem_node::handle::{NodeConfig, NodeHandle, Request};
use tandem_node::messages::{Code, NO_EMERGENCY_CALLS};
use tandem_node::platform::signals;
use tandem_node::{keys, start};

use super::{Place, log, page, runtime};
use crate::cli::{OpenArgs, UpArgs};
use crate::output::{self, Exit};

/// Calls and clients get this long to move; with the rest of the ending it stays within 10 s.
const DRAIN: Duration = Duration::from_secs(6);
/// A person is told when it takes longer than this.
const SLOW: Duration = Duration::from_secs(10);

pub(super) fn run(place: &Place, args: &UpArgs) -> Result<Exit, Problem> {
    let config = place.node_config(&args.settings.flags(), true)?;
    let _log = log(&config.config.log, Some(&place.data))?;
    if !place.json {
        welcome(place);
        if !config.config.policy.is_none() {
            output::line("An organisation's policy holds on this machine: see tandem policy.");
        }
    }
    runtime()?.block_on(serve(config, place.json, &args.open))
}

fn welcome(place: &Place) {
    if !keys::exists(&place.data) {
        output::line(format!(
            "This is the first start: an account is made in {}.\n{NO_EMERGENCY_CALLS}\n\
             Write down the 24 words of your account (tandem id --words): nobody can give them back to you.\n",
            place.data.display()
        ));
    }
    output::line("Starting …");
}

async fn serve(config: NodeConfig, json: bool, open: &OpenArgs) -> Result<Exit, Problem> {
    let (api, data) = (config.config.api, config.data.clone());
    let node = start(config).await.map_err(|error| error.problem())?;
    let handle = node.handle();
    // Before it waits for others: the page shows how that goes.
    if let Some(link) = node.page_link().filter(|link| link.in_build && !json) {
        page::offer(&link, open, &data);
    }
    let announced = async {
        let Some(ready) = ready(&handle, json).await else { return };
        output::either(json, &ready, |ready| text(ready, api));
        if !json {
            tell_of_new_terms(&handle).await;
        }
        // From here on it only waits.
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        signal = signals::terminate() => {
            let signal = signal.map_err(|error| Code::Internal.with(&[("detail", &error.to_string())]))?;
            tracing::info!(signal, "stopping");
            false
        }
        () = handle.ended() => true,
        () = announced => true,
    };
    if ended {
        tracing::info!("the node ended");
    } else if !json {
        output::line("Stopping; calls get a few seconds to end. Press Ctrl-C again to stop at once.");
    }
    tokio::select! {
        () = node.shutdown(DRAIN) => Ok(Exit::Done),
        _ = signals::terminate(), if !ended => Ok(Exit::Failed),
    }
}

/// A volunteer whose node serves nobody because the terms have changed should not find out by chance.
async fn tell_of_new_terms(handle: &NodeHandle) {
    // A node that stops already has nothing to tell.
    let Ok(status) = handle.ask(Request::Status).await else { return };
    let changed = Code::TermsChanged.entry().code;
    for problem in status.problems.iter().filter(|problem| problem.code == changed) {
        output::problem(problem, false);
    }
}

/// Waits until others can reach the node; says so when it takes long.
async fn ready(handle: &NodeHandle, json: bool) -> Option<Ready> {
    let waiting = handle.ready();
    tokio::pin!(waiting);
    match tokio::time::timeout(SLOW, &mut waiting).await {
        Ok(ready) => return ready,
        Err(_) if json => tracing::warn!("no supernode answers yet"),
        Err(_) => output::problem(&Code::NoSupernode.problem(), false),
    }
    waiting.await
}

fn text(ready: &Ready, api: std::net::SocketAddr) -> String {
    // A supernode works without homes; its owner's own account does not.
    let state = if ready.homes.is_empty() {
        "This node serves others now. Calls for yourself arrive once another supernode is your home."
    } else {
        "Others can reach you now."
    };
    let mut text = format!("{state}\nYour address  {}\nLocal API     http://{api}\n", ready.address);
    for home in &ready.homes {
        text.push_str(&format!("Home          {home}\n"));
    }
    for listen in &ready.listen {
        text.push_str(&format!("Listening on  {listen}\n"));
    }
    text.push_str("Leave this running. Ctrl-C stops it.");
    text
}
