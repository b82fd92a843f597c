//! What the running node shows.

use tandem_api::{CallDirection, CallState, CallSummary, Problem, Status};
use tandem_node::installation::unix_ms;
use tandem_node::messages::Code;

use super::Place;
use crate::client::Client;
use crate::output::{self, Exit};

pub(super) fn calls(place: &Place, only: Option<&str>, limit: u32) -> Result<Exit, Problem> {
    let limit = if only.is_some() { 1_000 } else { limit };
    let mut calls: Vec<CallSummary> =
        Client::require(&place.data)?.get(&format!("/api/calls?limit={limit}"))?;
    if let Some(only) = only {
        calls.retain(|call| call.call.starts_with(only));
        if calls.is_empty() {
            return Err(Code::NoSuchCall.problem());
        }
    }
    output::either(place.json, &calls, |calls| {
        if calls.is_empty() {
            return "No calls yet.".to_owned();
        }
        let rows: Vec<[String; 5]> = calls.iter().map(call_row).collect();
        output::table(["Call", "", "Who", "Ago", "State"], &rows)
    });
    Ok(Exit::Done)
}

fn call_row(call: &CallSummary) -> [String; 5] {
    let direction = match call.direction {
        CallDirection::Outgoing => "to",
        CallDirection::Incoming => "from",
    };
    let state = match call.state {
        CallState::LookingUp => "looking up",
        CallState::Ringing => "ringing",
        CallState::Connecting => "connecting",
        CallState::Talking => "talking",
        CallState::Ended => &call.result.why,
    };
    [
        call.call.clone(),
        direction.to_owned(),
        call.name.clone().unwrap_or_else(|| call.address.clone()),
        output::ago(call.started_unix_ms, unix_ms()),
        state.to_owned(),
    ]
}

pub(super) fn status(place: &Place) -> Result<Exit, Problem> {
    let status: Status = Client::require(&place.data)?.get("/api/status")?;
    output::either(place.json, &status, |status| {
        let reach = if status.reach.ready { "Others can reach you." } else { "Others cannot reach you yet." };
        let mut text = format!("{reach}\nYour address  {}\n", status.reach.address);
        for home in &status.home_details {
            text.push_str(&format!("Home          {} at {}\n", home.service, home.remote));
        }
        if let Some(kind) = status.network_kind {
            text.push_str(&format!(
                "Network       {} (tandem doctor network says more)\n",
                kind.word().replace('_', " ")
            ));
        }
        if status.requests_waiting > 0 {
            text.push_str(&format!("Requests      {} wait: tandem requests\n", status.requests_waiting));
        }
        for problem in &status.problems {
            text.push_str(&format!("{problem}: {}\n", problem.action));
        }
        text
    });
    Ok(Exit::Done)
}

pub(super) fn stop(place: &Place) -> Result<Exit, Problem> {
    let client = Client::require(&place.data)?;
    client.post::<()>("/api/shutdown", &serde_json::json!({}))?;
    output::either(place.json, &serde_json::json!({ "stopping": true }), |_| {
        "The node is stopping.".to_owned()
    });
    Ok(Exit::Done)
}
