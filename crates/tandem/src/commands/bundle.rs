//! `tandem bundle`: what helps to find a fault, without anything that names somebody. Written here, sent nowhere.

use serde_json::Value;
use tandem_api::{CallSummary, ConnectionView, Devices, Problem, Status};
use tandem_node::bundle::{Part, Private, Redactor, Sources, gather, tar};
use tandem_node::config::Flags;
use tandem_node::installation::unix_ms;
use tandem_node::messages::Code;
use tandem_node::platform::{DataLock, files, paths, random};
use tandem_node::store::Store;
use tandem_proto::identity::word_list;

use super::{Place, doctor, network};
use crate::cli::BundleArgs;
use crate::client::Client;
use crate::output::{self, Exit};

/// Calls looked through for names of devices; the node shows no more at once.
const CALLS_ASKED: u32 = 1_000;

pub(super) fn run(place: &Place, args: &BundleArgs) -> Result<Exit, Problem> {
    let client = Client::find(&place.data).ok().flatten();
    let redactor = redactor(place, client.as_ref())?;
    let sources = Sources {
        data: place.data.clone(),
        call: args.call.clone(),
        answers: answers(place, client.as_ref()),
    };
    let parts = gather(&sources, &redactor);
    if args.call.is_some() && !parts.iter().any(|part| part.name.starts_with("calls/")) {
        return Err(Code::NoSuchCall.problem());
    }
    if args.show {
        return Ok(show(place, &parts));
    }
    if !place.json {
        output::line(contents(&parts));
    }
    let path = paths::absolute(&args.out);
    files::replace(&path, &tar(&parts, unix_ms() / 1000)).map_err(|error| {
        Code::BundleNotWritten.with(&[("path", &path.display().to_string()), ("detail", &error.to_string())])
    })?;
    let rows: Vec<Value> = parts.iter().map(row).collect();
    let value = serde_json::json!({ "file": path.display().to_string(), "parts": rows });
    output::either(place.json, &value, |_| {
        format!(
            "Written to {}. It was sent nowhere. Look at what is inside before you give it to anybody:\n  tandem bundle \
             --show",
            path.display()
        )
    });
    Ok(Exit::Done)
}

fn row(part: &Part) -> Value {
    serde_json::json!({ "name": part.name, "what": part.what, "bytes": part.text.len() })
}

fn show(place: &Place, parts: &[Part]) -> Exit {
    if place.json {
        let text = |part: &Part| serde_json::json!({ "name": part.name, "what": part.what, "bytes": part.text.len(), "text": part.text });
        output::json(&parts.iter().map(text).collect::<Vec<_>>());
    } else {
        for part in parts {
            output::line(format!("==== {} ({})\n{}", part.name, part.what, part.text));
        }
    }
    Exit::Done
}

fn contents(parts: &[Part]) -> String {
    let rows: Vec<[String; 3]> = parts
        .iter()
        .map(|part| [part.name.clone(), output::bytes(part.text.len() as u64), part.what.clone()])
        .collect();
    format!(
        "What is inside, names, keys and addresses replaced:\n{}",
        output::table(["File", "Size", "What"], &rows)
    )
}

/// What the program can say of itself; an answer that cannot be had is left out.
fn answers(place: &Place, client: Option<&Client>) -> Vec<(&'static str, &'static str, Value)> {
    let mut answers = Vec::new();
    let mut add = |name, what, value: Option<Value>| answers.extend(value.map(|value| (name, what, value)));
    let settings = place.load(&Flags::new()).ok().and_then(|loaded| serde_json::to_value(loaded.view).ok());
    add("settings.json", "settings in force", settings);
    let examined = doctor::examine(place).ok().and_then(|report| serde_json::to_value(report).ok());
    add("doctor.json", "tandem doctor", examined);
    let examined = network::examine(place).ok().and_then(|report| serde_json::to_value(report).ok());
    add("network.json", "tandem doctor network", examined);
    if let Some(client) = client {
        let status: Option<Status> = client.get("/api/status").ok();
        add("status.json", "tandem status", status.and_then(|status| serde_json::to_value(status).ok()));
        let connections: Option<Vec<ConnectionView>> = client.get("/api/connections").ok();
        let connections = connections.and_then(|list| serde_json::to_value(list).ok());
        add("connections.json", "tandem connections", connections);
    }
    answers
}

/// Knows what only this installation can know to be private: names of contacts, of the user, of the machine.
fn redactor(place: &Place, client: Option<&Client>) -> Result<Redactor, Problem> {
    let mut redactor = Redactor::new(random::bytes(), word_list().map(str::to_owned));
    let mut private = match client {
        Some(client) => told_by(client)?,
        None => stored(place)?,
    };
    private.add_files(&place.data, &mut redactor);
    private.teach(&mut redactor);
    redactor.know(&place.data.display().to_string(), "data");
    for (variable, kind) in [("HOME", "home"), ("USERPROFILE", "home"), ("USER", "user"), ("LOGNAME", "user")]
    {
        // "root" and "/" name nobody, and stand in many texts.
        let value = std::env::var(variable).unwrap_or_default();
        if !["", "/", "root", "/root"].contains(&value.as_str()) {
            redactor.know(&value, kind);
        }
    }
    for file in [paths::API_TOKEN, paths::API_INFO] {
        let text = std::fs::read_to_string(place.data.join(file)).unwrap_or_default();
        let token = serde_json::from_str::<Value>(&text).ok();
        let token = token.and_then(|info| Some(info.get("token")?.as_str()?.to_owned()));
        redactor.know(&token.unwrap_or(text), "secret");
    }
    if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        redactor.know(&host, "machine");
    }
    Ok(redactor)
}

/// What a running node tells. Without any part of it no bundle is made: the names could not be replaced.
fn told_by(client: &Client) -> Result<Private, Problem> {
    let devices: Devices = client.get("/api/devices")?;
    let calls: Vec<CallSummary> = client.get(&format!("/api/calls?limit={CALLS_ASKED}"))?;
    let mut labels: Vec<String> = devices.devices.into_iter().map(|device| device.label).collect();
    labels.extend(calls.into_iter().filter_map(|call| call.result.answered_by));
    Ok(Private {
        contacts: client.get("/api/contacts")?,
        requests: client.get("/api/requests")?,
        invitations: client.get("/api/invitations")?,
        labels,
    })
}

/// What the store of a node that does not run holds.
fn stored(place: &Place) -> Result<Private, Problem> {
    let path = place.data.join(paths::STORE);
    if !path.exists() {
        return Ok(Private::default());
    }
    let unread = |error: &dyn std::fmt::Display| {
        let detail = format!("the contacts, whose names must be replaced in it, cannot be read ({error})");
        Code::BundleNotWritten.with(&[("path", "a file"), ("detail", &detail)])
    };
    let _lock = DataLock::take(&place.data).map_err(|error| unread(&error))?;
    Store::open(&path, unix_ms()).and_then(|store| Private::of_store(&store)).map_err(|error| unread(&error))
}
