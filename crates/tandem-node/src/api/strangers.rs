//! The routes about people who are no contacts: invitations, silent requests, blocking.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{delete, get, post};
use tandem_api::{
    AcceptRequest, Block, Cleared, Contact, ContactRequest, Failure, InvitationMade, InvitationView,
    NewBlock, NewInvitation, NewRequest, SentRequest,
};

use super::Context;
use super::body::{Answer, Body};
use super::routes::{Node, ask};
use crate::handle::{Request, StrangerRequest};

pub(super) fn routes() -> Router<Arc<Context>> {
    Router::new()
        .route("/api/invitations", get(invitations).post(invite))
        .route("/api/invitations/{id}", delete(revoke))
        .route("/api/requests", get(requests).post(leave))
        .route("/api/requests/clear", post(clear))
        .route("/api/requests/sent", get(sent))
        .route("/api/requests/{request}/accept", post(accept))
        .route("/api/requests/{request}/decline", post(decline))
        .route("/api/blocks", get(blocks).post(block))
        .route("/api/blocks/{who}", delete(unblock))
}

/// Invitations that are out, newest first.
#[utoipa::path(get, path = "/api/invitations", tag = "strangers",
    responses((status = 200, body = Vec<InvitationView>), (status = "default", body = Failure)))]
pub(super) async fn invitations(State(context): Node) -> Answer<Vec<InvitationView>> {
    ask(&context, |reply| Request::Strangers(StrangerRequest::Invitations(reply))).await
}

/// Makes an invitation. Its link is shown this once.
#[utoipa::path(post, path = "/api/invitations", tag = "strangers", request_body = NewInvitation,
    responses((status = 200, body = InvitationMade), (status = "default", body = Failure)))]
pub(super) async fn invite(State(context): Node, Body(new): Body<NewInvitation>) -> Answer<InvitationMade> {
    ask(&context, |reply| Request::Strangers(StrangerRequest::Invite(new, reply))).await
}

/// Ends an invitation.
#[utoipa::path(delete, path = "/api/invitations/{id}", tag = "strangers",
    params(("id" = u64, Path, description = "The invitation")),
    responses((status = 200, description = "Ended"), (status = "default", body = Failure)))]
pub(super) async fn revoke(State(context): Node, Path(id): Path<u64>) -> Answer<()> {
    ask(&context, |reply| Request::Strangers(StrangerRequest::Revoke { id, reply })).await
}

/// Silent requests that wait for a decision, newest first.
#[utoipa::path(get, path = "/api/requests", tag = "strangers",
    responses((status = 200, body = Vec<ContactRequest>), (status = "default", body = Failure)))]
pub(super) async fn requests(State(context): Node) -> Answer<Vec<ContactRequest>> {
    ask(&context, |reply| Request::Strangers(StrangerRequest::Requests(reply))).await
}

/// Makes whoever left a request a contact.
#[utoipa::path(post, path = "/api/requests/{request}/accept", tag = "strangers", request_body = AcceptRequest,
    params(("request" = String, Path, description = "Its id, the beginning of it, or the address")),
    responses((status = 200, body = Contact), (status = "default", body = Failure)))]
pub(super) async fn accept(
    State(context): Node,
    Path(who): Path<String>,
    Body(accept): Body<AcceptRequest>,
) -> Answer<Contact> {
    ask(&context, |reply| Request::Strangers(StrangerRequest::Accept { who, accept, reply })).await
}

/// Declines a request; they are not told, and another one is passed over for 30 days.
#[utoipa::path(post, path = "/api/requests/{request}/decline", tag = "strangers",
    params(("request" = String, Path, description = "Its id, the beginning of it, or the address")),
    responses((status = 200, description = "Declined"), (status = "default", body = Failure)))]
pub(super) async fn decline(State(context): Node, Path(who): Path<String>) -> Answer<()> {
    ask(&context, |reply| Request::Strangers(StrangerRequest::Decline { who, reply })).await
}

/// Drops all requests that wait.
#[utoipa::path(post, path = "/api/requests/clear", tag = "strangers",
    responses((status = 200, body = Cleared), (status = "default", body = Failure)))]
pub(super) async fn clear(State(context): Node) -> Answer<Cleared> {
    ask(&context, |reply| Request::Strangers(StrangerRequest::Clear(reply))).await
}

/// Leaves a silent request with somebody; how it goes comes as events.
#[utoipa::path(post, path = "/api/requests", tag = "strangers", request_body = NewRequest,
    responses((status = 200, body = SentRequest), (status = "default", body = Failure)))]
pub(super) async fn leave(State(context): Node, Body(new): Body<NewRequest>) -> Answer<SentRequest> {
    ask(&context, |reply| Request::Strangers(StrangerRequest::Leave(new, reply))).await
}

/// Requests left with others since the node started, newest first.
#[utoipa::path(get, path = "/api/requests/sent", tag = "strangers",
    responses((status = 200, body = Vec<SentRequest>), (status = "default", body = Failure)))]
pub(super) async fn sent(State(context): Node) -> Answer<Vec<SentRequest>> {
    ask(&context, |reply| Request::Strangers(StrangerRequest::Sent(reply))).await
}

/// Blocked accounts, newest first.
#[utoipa::path(get, path = "/api/blocks", tag = "strangers",
    responses((status = 200, body = Vec<Block>), (status = "default", body = Failure)))]
pub(super) async fn blocks(State(context): Node) -> Answer<Vec<Block>> {
    ask(&context, |reply| Request::Strangers(StrangerRequest::Blocks(reply))).await
}

/// Blocks an account: it neither rings nor leaves requests, and is not told so.
#[utoipa::path(post, path = "/api/blocks", tag = "strangers", request_body = NewBlock,
    responses((status = 200, body = Block), (status = "default", body = Failure)))]
pub(super) async fn block(State(context): Node, Body(new): Body<NewBlock>) -> Answer<Block> {
    ask(&context, |reply| Request::Strangers(StrangerRequest::Block { who: new.address, reply })).await
}

/// Lets a blocked account be as others.
#[utoipa::path(delete, path = "/api/blocks/{who}", tag = "strangers",
    params(("who" = String, Path, description = "Address or name")),
    responses((status = 200, description = "Unblocked"), (status = "default", body = Failure)))]
pub(super) async fn unblock(State(context): Node, Path(who): Path<String>) -> Answer<()> {
    ask(&context, |reply| Request::Strangers(StrangerRequest::Unblock { who, reply })).await
}
