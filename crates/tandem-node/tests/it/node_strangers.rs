//! People who are no contacts, over whole nodes: invitations, silent requests, blocking.

use std::time::Duration;

use rusqlite::Connection;
use tandem_api::{
    AcceptRequest, AnswerRequest, CallEvent, CallPath, CallRequest, CallStep, ContactRequest, EndReason,
    InvitationMade, InvitationView, NewContact, NewInvitation, NewRequest, NodeEvent, SentRequest, SentState,
};
use tandem_core::call::Strangers;
use tandem_node::config::Answer;
use tandem_node::handle::{Request, StrangerRequest};
use tandem_proto::identity::{InvitationSecret, Link};
use tokio::sync::broadcast::Receiver;

use crate::node::{Ongoing, Plan, TestNode, node_config, speaking_to, start_with, stop, supernodes};

/// A proof is some seconds of work, and more on a machine that is busy.
const REQUEST_WITHIN: Duration = Duration::from_secs(180);

/// Somebody for whom no stranger rings.
async fn reserved(network: u8, supernodes: &[TestNode]) -> TestNode {
    let folder = tempfile::tempdir().unwrap();
    let bootstrap = &supernodes[0].ready.listen;
    let mut config =
        node_config(&folder, Plan { network, bootstrap, volunteer: false, answer: Answer::Ring });
    config.config.strangers = Some(Strangers::Requests);
    start_with(folder, config).await
}

async fn invite(node: &TestNode, uses: u32) -> InvitationMade {
    let new = NewInvitation { label: "Fair".to_owned(), uses: Some(uses), ..NewInvitation::default() };
    node.handle.ask(|reply| Request::Strangers(StrangerRequest::Invite(new, reply))).await.unwrap()
}

async fn invitations(node: &TestNode) -> Vec<InvitationView> {
    node.handle.ask(|reply| Request::Strangers(StrangerRequest::Invitations(reply))).await.unwrap()
}

async fn requests(node: &TestNode) -> Vec<ContactRequest> {
    node.handle.ask(|reply| Request::Strangers(StrangerRequest::Requests(reply))).await.unwrap()
}

async fn block(node: &TestNode, whom: &TestNode) -> tandem_api::Block {
    let who = whom.ready.address.clone();
    node.handle.ask(|reply| Request::Strangers(StrangerRequest::Block { who, reply })).await.unwrap()
}

async fn add_contact(node: &TestNode, whom: &TestNode, name: &str) {
    let new = NewContact { address: whom.ready.address.clone(), name: name.to_owned(), note: String::new() };
    node.handle.ask(|reply| Request::AddContact(new, reply)).await.unwrap();
}

fn to(whom: &str) -> CallRequest {
    CallRequest { address: whom.to_owned(), ..CallRequest::default() }
}

/// The labels of the invitations by which calls have rung, in these events.
fn rings(events: &mut Receiver<NodeEvent>) -> Vec<Option<String>> {
    let mut rings = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let NodeEvent::Call(CallEvent { step: CallStep::Incoming { invitation, .. }, .. }) = event {
            rings.push(invitation);
        }
    }
    rings
}

/// Calls and is refused; nobody's bell rings.
async fn is_refused(from: &TestNode, whom: &str, callee: &TestNode) {
    let mut events = callee.handle.events();
    let (reason, result) = Ongoing::place(from, to(whom)).await.ended().await;
    assert_eq!(reason, EndReason::Refused, "{result:?}");
    assert_eq!(rings(&mut events), []);
}

/// Calls, and it rings there; the callee declines.
async fn rings_there(from: &TestNode, whom: &str, callee: &TestNode) {
    let events = callee.handle.events();
    let mut placed = Ongoing::place(from, to(whom)).await;
    let rung = Ongoing::incoming(events).await;
    callee.handle.ask(|reply| Request::Decline { call: rung.call, reply }).await.unwrap();
    assert_eq!(placed.ended().await.0, EndReason::Declined);
}

/// Leaves a silent request and says how it went.
async fn leave(from: &TestNode, whom: &TestNode, message: &str) -> SentRequest {
    let mut events = from.handle.events();
    let new = NewRequest {
        address: whom.ready.address.clone(),
        message: message.to_owned(),
        name: "Alice".to_owned(),
    };
    let begun =
        from.handle.ask(|reply| Request::Strangers(StrangerRequest::Leave(new, reply))).await.unwrap();
    loop {
        let event = tokio::time::timeout(REQUEST_WITHIN, events.recv()).await.expect("in time").unwrap();
        if let NodeEvent::RequestSent { request } = event
            && request.id == begun.id
            && request.state != SentState::Working
        {
            return request;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_rings_for_whom_it_is_until_it_is_revoked() {
    let supernodes = supernodes(170..=172).await;
    let bob = reserved(173, &supernodes).await;
    let alice = reserved(174, &supernodes).await;
    let carol = reserved(175, &supernodes).await;

    let one = invite(&bob, 1).await;
    let events = bob.handle.events();
    let mut bell = bob.handle.events();
    let request = CallRequest { address: one.link.clone(), ..speaking_to(&bob) };
    let mut placed = Ongoing::place(&alice, request).await;
    let mut rung = Ongoing::incoming(events).await;
    assert_eq!(rings(&mut bell), [Some("Fair".to_owned())]);
    bob.handle
        .ask(|reply| Request::Answer { call: String::new(), answer: AnswerRequest::default(), reply })
        .await
        .unwrap();
    tokio::join!(placed.connected(), rung.connected());
    placed.hang_up(&alice).await;
    let (reason, result) = placed.ended().await;
    assert_eq!((reason, result.path), (EndReason::HungUp, Some(CallPath::Relayed)), "{result:?}");
    rung.ended().await;
    assert_eq!(invitations(&bob).await[0].used_by, std::slice::from_ref(&alice.ready.address));

    is_refused(&carol, &one.link, &bob).await;
    rings_there(&alice, &one.link, &bob).await;
    is_refused(&alice, &bob.ready.address, &bob).await;
    let address = bob.ready.address.parse().unwrap();
    let made_up = Link { address, invitation: Some(InvitationSecret([7; 20])) };
    is_refused(&carol, &made_up.to_string(), &bob).await;

    let two = invite(&bob, 2).await;
    rings_there(&alice, &two.link, &bob).await;
    rings_there(&carol, &two.link, &bob).await;
    let id = two.invitation.id;
    bob.handle.ask(|reply| Request::Strangers(StrangerRequest::Revoke { id, reply })).await.unwrap();
    is_refused(&alice, &two.link, &bob).await;
    is_refused(&carol, &two.link, &bob).await;
    assert_eq!(leave(&carol, &bob, "The link is of no use.").await.state, SentState::Left);
    assert_eq!(requests(&bob).await[0].address, carol.ready.address);
    stop(supernodes.into_iter().chain([alice, bob, carol])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_request_is_accepted_or_declined_and_the_blocked_are_not_heard() {
    let supernodes = supernodes(176..=178).await;
    let bob = reserved(179, &supernodes).await;
    let alice = reserved(180, &supernodes).await;
    let carol = reserved(181, &supernodes).await;
    let mut bell = bob.handle.events();

    let left = leave(&alice, &bob, "We met at the fair.").await;
    assert_eq!((left.state, left.devices), (SentState::Left, 1), "{left:?}");
    assert_eq!(leave(&carol, &bob, "Buy.").await.state, SentState::Left);
    let waiting = requests(&bob).await;
    let told: Vec<(&str, &str)> =
        waiting.iter().map(|one| (one.address.as_str(), one.message.as_str())).collect();
    assert_eq!(
        told,
        [(carol.ready.address.as_str(), "Buy."), (alice.ready.address.as_str(), "We met at the fair.")]
    );
    assert_eq!(rings(&mut bell), []);

    let who = carol.ready.address.clone();
    bob.handle.ask(|reply| Request::Strangers(StrangerRequest::Decline { who, reply })).await.unwrap();
    assert_eq!(leave(&carol, &bob, "Buy now.").await.state, SentState::Left, "she is told nothing");
    assert_eq!(requests(&bob).await.len(), 1);
    let (who, accept) = (waiting[1].id.clone(), AcceptRequest { name: Some("Alice".to_owned()) });
    bob.handle.ask(|reply| Request::Strangers(StrangerRequest::Accept { who, accept, reply })).await.unwrap();
    assert!(requests(&bob).await.is_empty());
    rings_there(&alice, &bob.ready.address, &bob).await;
    is_refused(&bob, "Alice", &alice).await;
    add_contact(&alice, &bob, "Bob").await;
    rings_there(&bob, "Alice", &alice).await;

    let blocked = block(&bob, &alice).await;
    assert_eq!(block(&bob, &alice).await, blocked, "since the first time");
    is_refused(&alice, "Bob", &bob).await;
    let link = invite(&bob, 1).await.link;
    is_refused(&alice, &link, &bob).await;
    let who = "Alice".to_owned();
    bob.handle.ask(|reply| Request::Strangers(StrangerRequest::Unblock { who, reply })).await.unwrap();
    rings_there(&alice, "Bob", &bob).await;
    stop(supernodes.into_iter().chain([alice, bob, carol])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_read_unblocks_nobody() {
    let supernodes = supernodes(182..=184).await;
    let bob = reserved(185, &supernodes).await;
    let alice = reserved(186, &supernodes).await;
    let link = invite(&bob, 5).await.link;
    rings_there(&alice, &link, &bob).await;
    block(&bob, &alice).await;
    is_refused(&alice, &link, &bob).await;

    let store = Connection::open(bob.folder.path().join("data/store.db")).unwrap();
    store.busy_timeout(Duration::from_secs(5)).unwrap();
    store.execute_batch("ALTER TABLE blocks RENAME TO blocks_gone").unwrap();
    let failed = bob.handle.ask(|reply| Request::Strangers(StrangerRequest::Blocks(reply))).await;
    assert!(failed.is_err(), "the list cannot be shown: {failed:?}");
    let who = alice.ready.address.clone();
    let failed = bob.handle.ask(|reply| Request::Strangers(StrangerRequest::Unblock { who, reply })).await;
    assert!(failed.is_err(), "{failed:?}");
    // A change that has the lists read again.
    bob.handle.ask(|reply| Request::Strangers(StrangerRequest::Clear(reply))).await.unwrap();
    is_refused(&alice, &link, &bob).await;
    stop(supernodes.into_iter().chain([alice, bob])).await;
}
