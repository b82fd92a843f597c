//! People who are no contacts: `invite`, `request`, `requests`, `block`, `unblock`, `blocks`.

use tandem_api::{
    AcceptRequest, Block, Cleared, Contact, ContactRequest, InvitationMade, InvitationView, NewBlock,
    NewInvitation, NewRequest, NodeEvent, Problem, SentRequest, SentState,
};
use tandem_node::installation::unix_ms;
use tandem_node::messages::Code;

use super::Place;
use crate::cli::{InviteAction, InviteArgs, RequestArgs, RequestsAction};
use crate::client::{Client, path_part};
use crate::output::{self, Exit};

pub(super) fn invite(place: &Place, args: &InviteArgs) -> Result<Exit, Problem> {
    let client = Client::require(&place.data)?;
    match args.action {
        None => {
            let for_ms = args.for_time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            let new = NewInvitation { label: args.label.clone(), for_ms, uses: args.uses };
            let made: InvitationMade = client.post("/api/invitations", &new)?;
            output::either(place.json, &made, |made| {
                format!(
                    "{}\nIt is shown this once. End it with: tandem invite revoke {}",
                    made.link, made.invitation.id
                )
            });
        }
        Some(InviteAction::List) => {
            let invitations: Vec<InvitationView> = client.get("/api/invitations")?;
            output::either(place.json, &invitations, |invitations| list_invitations(invitations));
        }
        Some(InviteAction::Revoke { id }) => {
            client.delete(&format!("/api/invitations/{id}"))?;
            let revoked = serde_json::json!({ "revoked": id });
            output::either(place.json, &revoked, |_| format!("Invitation {id} lets nobody in any more."));
        }
    }
    Ok(Exit::Done)
}

fn list_invitations(invitations: &[InvitationView]) -> String {
    if invitations.is_empty() {
        return "No invitations are out. Make one with: tandem invite".to_owned();
    }
    let now_ms = unix_ms();
    let rows: Vec<[String; 4]> = invitations
        .iter()
        .map(|invitation| {
            let ends = match invitation.not_after_unix_ms.checked_sub(now_ms) {
                Some(left) => format!("in {} h", left.div_ceil(3_600_000)),
                None => "over".to_owned(),
            };
            let used = format!("{} of {}", invitation.used_by.len(), invitation.uses);
            [invitation.id.to_string(), invitation.label.clone(), used, ends]
        })
        .collect();
    output::table(["Id", "Label", "Used by", "Ends"], &rows)
}

/// Leaves a silent request and waits until it is known how that went.
pub(super) fn request(place: &Place, args: &RequestArgs) -> Result<Exit, Problem> {
    let client = Client::require(&place.data)?;
    let mut events = client.events()?;
    let new =
        NewRequest { address: args.address.clone(), message: args.message.clone(), name: args.name.clone() };
    let mut sent: SentRequest = client.post("/api/requests", &new)?;
    if !place.json {
        output::line(sent.why.clone());
    }
    while sent.state == SentState::Working {
        match events.next()? {
            Some(NodeEvent::RequestSent { request }) if request.id == sent.id => sent = request,
            // The end may be among what was missed.
            Some(NodeEvent::Missed { .. }) => {
                let all: Vec<SentRequest> = client.get("/api/requests/sent")?;
                sent = all.into_iter().find(|request| request.id == sent.id).unwrap_or(sent);
            }
            Some(_) => {}
            None => return Err(Code::NodeStopped.problem()),
        }
    }
    if sent.state != SentState::Left && !place.json {
        return Err(Code::RequestFailed.with(&[("detail", &sent.why)]));
    }
    output::either(place.json, &sent, |sent| sent.why.clone());
    Ok(if sent.state == SentState::Left { Exit::Done } else { Exit::Failed })
}

pub(super) fn requests(place: &Place, action: Option<RequestsAction>) -> Result<Exit, Problem> {
    let client = Client::require(&place.data)?;
    match action.unwrap_or(RequestsAction::List) {
        RequestsAction::List => {
            let requests: Vec<ContactRequest> = client.get("/api/requests")?;
            output::either(place.json, &requests, |requests| list_requests(requests));
        }
        RequestsAction::Accept { request, name } => {
            let path = format!("/api/requests/{}/accept", path_part(&request));
            let contact: Contact = client.post(&path, &AcceptRequest { name })?;
            output::either(place.json, &contact, |contact| {
                format!("{} is now a contact, whose calls ring.", contact.name)
            });
        }
        RequestsAction::Decline { request } => {
            client.post_empty::<()>(&format!("/api/requests/{}/decline", path_part(&request)))?;
            let declined = serde_json::json!({ "declined": request });
            output::either(place.json, &declined, |_| "Declined. They are not told.".to_owned());
        }
        RequestsAction::Clear => {
            let cleared: Cleared = client.post_empty("/api/requests/clear")?;
            output::either(place.json, &cleared, |cleared| format!("{} requests dropped.", cleared.count));
        }
    }
    Ok(Exit::Done)
}

fn list_requests(requests: &[ContactRequest]) -> String {
    if requests.is_empty() {
        return "No requests wait.".to_owned();
    }
    let entry = |request: &ContactRequest| {
        let name = if request.claimed_name.is_empty() { "(no name)" } else { &request.claimed_name };
        let message = if request.message.is_empty() { "(no message)" } else { &request.message };
        format!(
            "{}  calls itself {name}, {} ago\n          {}\n          {message}",
            request.id,
            output::ago(request.at_unix_ms, unix_ms()),
            request.address
        )
    };
    let mut entries: Vec<String> = requests.iter().map(entry).collect();
    entries.push("Accept one with: tandem requests accept ID --as NAME".to_owned());
    entries.join("\n")
}

pub(super) fn block(place: &Place, who: &str) -> Result<Exit, Problem> {
    let block: Block =
        Client::require(&place.data)?.post("/api/blocks", &NewBlock { address: who.to_owned() })?;
    output::either(place.json, &block, |_| format!("{who} is blocked, and is not told so."));
    Ok(Exit::Done)
}

pub(super) fn unblock(place: &Place, who: &str) -> Result<Exit, Problem> {
    Client::require(&place.data)?.delete(&format!("/api/blocks/{}", path_part(who)))?;
    let unblocked = serde_json::json!({ "unblocked": who });
    output::either(place.json, &unblocked, |_| format!("{who} is no longer blocked."));
    Ok(Exit::Done)
}

pub(super) fn blocks(place: &Place) -> Result<Exit, Problem> {
    let blocks: Vec<Block> = Client::require(&place.data)?.get("/api/blocks")?;
    output::either(place.json, &blocks, |blocks| {
        if blocks.is_empty() {
            return "Nobody is blocked.".to_owned();
        }
        let row = |block: &Block| {
            let name = block.contact.clone().unwrap_or_default();
            [block.address.clone(), name, output::ago(block.since_unix_ms, unix_ms())]
        };
        output::table(["Address", "Contact", "Since"], &blocks.iter().map(row).collect::<Vec<_>>())
    });
    Ok(Exit::Done)
}
