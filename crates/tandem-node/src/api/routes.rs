//! The routes, each a thin step to one [`Request`] of the node.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router, middleware};
use serde::{Deserialize, Serialize};
use tandem_api::{
    AccountWords, AnswerRequest, CallRequest, CallStarted, CallSummary, CallWhy, ConnectionView, Contact,
    ContactChange, DeviceChange, DeviceView, Devices, EchoRequest, Failure, Identity, NetworkReport,
    NewContact, NewDevice, Problem, SoundAnswer, SoundOffer, Status, WordsRequest,
};
use utoipa::{IntoParams, ToSchema};

use super::body::{Answer, Body, Refusal};
use super::{BODY_BYTES_MAX, Context, assets, events, guard, metrics, openapi, page};
use crate::handle::{Reply, Request};
use crate::messages::Code;

/// Calls shown when nobody says how many.
const CALLS_DEFAULT: u32 = 50;
const CALLS_MOST: u32 = 1_000;
const DRAIN_DEFAULT_MS: u64 = 10_000;
/// In a path: the only call that can be meant.
const CURRENT: &str = "current";

pub(super) type Node = State<Arc<Context>>;

pub(super) fn router(context: Arc<Context>) -> Router {
    let with_token = Router::new()
        .route("/api/status", get(status))
        .route("/api/identity", get(identity))
        .route("/api/identity/words", post(words))
        .route("/api/contacts", get(contacts).post(add_contact))
        .route("/api/contacts/{who}", patch(change_contact).delete(remove_contact))
        .route("/api/calls", get(calls).post(place_call))
        .route("/api/calls/{call}/answer", post(answer_call))
        .route("/api/calls/{call}/sound", post(attach_sound).delete(detach_sound))
        .route("/api/calls/{call}/decline", post(decline_call))
        .route("/api/calls/{call}/hangup", post(hang_up_call))
        .route("/api/calls/{call}/why", get(why))
        .route("/api/echo", post(echo))
        .route("/api/network", get(network))
        .route("/api/devices", get(devices).post(add_device))
        .route("/api/devices/{device}", patch(rename_device).delete(revoke_device))
        .merge(super::strangers::routes())
        .route("/api/connections", get(connections))
        .merge(super::volunteer::routes())
        .merge(page::routes())
        .route("/api/shutdown", post(shutdown))
        .route("/metrics", get(metrics_text))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&context), guard::token));
    Router::new()
        .route("/api/events", get(events::events))
        .route("/api/openapi.json", get(openapi_document))
        .merge(page::open_routes())
        .merge(with_token)
        .fallback(page_or_nothing)
        .method_not_allowed_fallback(nothing_here)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&context), guard::outer))
        .with_state(context)
}

pub(super) async fn ask<T>(context: &Context, request: impl FnOnce(Reply<T>) -> Request) -> Answer<T> {
    context.node.ask(request).await.map(Json).map_err(Refusal)
}

/// What the node is doing now.
#[utoipa::path(get, path = "/api/status", tag = "node",
    responses((status = 200, body = Status), (status = "default", body = Failure)))]
pub(super) async fn status(State(context): Node) -> Answer<Status> {
    ask(&context, Request::Status).await
}

/// Who this installation is.
#[utoipa::path(get, path = "/api/identity", tag = "node",
    responses((status = 200, body = Identity), (status = "default", body = Failure)))]
pub(super) async fn identity(State(context): Node) -> Answer<Identity> {
    ask(&context, Request::Identity).await
}

/// The 24 words of the account, where they are on this device (else T1110). Whoever has them is this person.
#[utoipa::path(post, path = "/api/identity/words", tag = "node", request_body = Option<WordsRequest>,
    responses((status = 200, body = AccountWords), (status = "default", body = Failure)))]
pub(super) async fn words(State(context): Node, body: Option<Body<WordsRequest>>) -> Answer<AccountWords> {
    let request = body.map(|Body(request)| request).unwrap_or_default();
    ask(&context, |reply| Request::Words(request, reply)).await
}

/// All contacts, by name.
#[utoipa::path(get, path = "/api/contacts", tag = "contacts",
    responses((status = 200, body = Vec<Contact>), (status = "default", body = Failure)))]
pub(super) async fn contacts(State(context): Node) -> Answer<Vec<Contact>> {
    ask(&context, Request::Contacts).await
}

/// Adds a contact.
#[utoipa::path(post, path = "/api/contacts", tag = "contacts", request_body = NewContact,
    responses((status = 200, body = Contact), (status = "default", body = Failure)))]
pub(super) async fn add_contact(State(context): Node, Body(new): Body<NewContact>) -> Answer<Contact> {
    ask(&context, |reply| Request::AddContact(new, reply)).await
}

/// Changes a contact: name, note, blocked. What is absent stays.
#[utoipa::path(patch, path = "/api/contacts/{who}", tag = "contacts", request_body = ContactChange,
    params(("who" = String, Path, description = "Address or name")),
    responses((status = 200, body = Contact), (status = "default", body = Failure)))]
pub(super) async fn change_contact(
    State(context): Node,
    Path(who): Path<String>,
    Body(change): Body<ContactChange>,
) -> Answer<Contact> {
    ask(&context, |reply| Request::ChangeContact { who, change, reply }).await
}

/// Removes a contact.
#[utoipa::path(delete, path = "/api/contacts/{who}", tag = "contacts",
    params(("who" = String, Path, description = "Address or name")),
    responses((status = 200, description = "Removed"), (status = "default", body = Failure)))]
pub(super) async fn remove_contact(State(context): Node, Path(who): Path<String>) -> Answer<()> {
    ask(&context, |reply| Request::RemoveContact { who, reply }).await
}

/// How many calls to show.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct CallsQuery {
    /// At most so many; default 50, at most 1,000.
    limit: Option<u32>,
}

/// Calls going on first, then past ones, newest first.
#[utoipa::path(get, path = "/api/calls", tag = "calls", params(CallsQuery),
    responses((status = 200, body = Vec<CallSummary>), (status = "default", body = Failure)))]
pub(super) async fn calls(State(context): Node, Query(query): Query<CallsQuery>) -> Answer<Vec<CallSummary>> {
    let limit = query.limit.unwrap_or(CALLS_DEFAULT).min(CALLS_MOST);
    ask(&context, |reply| Request::Calls { limit, reply }).await
}

/// Begins a call; what follows comes as events.
#[utoipa::path(post, path = "/api/calls", tag = "calls", request_body = CallRequest,
    responses((status = 200, body = CallStarted), (status = "default", body = Failure)))]
pub(super) async fn place_call(
    State(context): Node,
    Body(request): Body<CallRequest>,
) -> Answer<CallStarted> {
    ask(&context, |reply| Request::PlaceCall(request, reply)).await
}

/// The account's devices. Takes a few seconds: they are asked whether they are there.
#[utoipa::path(get, path = "/api/devices", tag = "devices",
    responses((status = 200, body = Devices), (status = "default", body = Failure)))]
pub(super) async fn devices(State(context): Node) -> Answer<Devices> {
    ask(&context, Request::Devices).await
}

/// Adds the device that printed a link.
#[utoipa::path(post, path = "/api/devices", tag = "devices", request_body = NewDevice,
    responses((status = 200, body = DeviceView), (status = "default", body = Failure)))]
pub(super) async fn add_device(State(context): Node, Body(new): Body<NewDevice>) -> Answer<DeviceView> {
    ask(&context, |reply| Request::AddDevice(new, reply)).await
}

/// Gives a device another label.
#[utoipa::path(patch, path = "/api/devices/{device}", tag = "devices", request_body = DeviceChange,
    params(("device" = String, Path, description = "Label, or the beginning of the key")),
    responses((status = 200, body = DeviceView), (status = "default", body = Failure)))]
pub(super) async fn rename_device(
    State(context): Node,
    Path(who): Path<String>,
    Body(change): Body<DeviceChange>,
) -> Answer<DeviceView> {
    ask(&context, |reply| Request::RenameDevice { who, change, reply }).await
}

/// Shuts a device out for ever; answers with what it was.
#[utoipa::path(delete, path = "/api/devices/{device}", tag = "devices",
    params(("device" = String, Path, description = "Label, or the beginning of the key")),
    responses((status = 200, body = DeviceView), (status = "default", body = Failure)))]
pub(super) async fn revoke_device(State(context): Node, Path(who): Path<String>) -> Answer<DeviceView> {
    ask(&context, |reply| Request::RevokeDevice { who, reply }).await
}

/// Begins a test call to a supernode's echo service.
#[utoipa::path(post, path = "/api/echo", tag = "calls", request_body = EchoRequest,
    responses((status = 200, body = CallStarted), (status = "default", body = Failure)))]
pub(super) async fn echo(State(context): Node, Body(request): Body<EchoRequest>) -> Answer<CallStarted> {
    ask(&context, |reply| Request::Echo(request, reply)).await
}

/// Answers a call that rings here.
#[utoipa::path(post, path = "/api/calls/{call}/answer", tag = "calls", request_body = Option<AnswerRequest>,
    params(("call" = String, Path, description = "The call, or `current`")),
    responses((status = 200, body = CallSummary), (status = "default", body = Failure)))]
pub(super) async fn answer_call(
    State(context): Node,
    Path(call): Path<String>,
    body: Option<Body<AnswerRequest>>,
) -> Answer<CallSummary> {
    let answer = body.map(|Body(answer)| answer).unwrap_or_default();
    ask(&context, |reply| Request::Answer { call: named(call), answer, reply }).await
}

/// Makes a page of a browser microphone and speaker of a call whose endpoint is `page`, in place of any other. At any time
/// of the call; nothing of what it says leaves this machine before the call is agreed.
#[utoipa::path(post, path = "/api/calls/{call}/sound", tag = "calls", request_body = SoundOffer,
    params(("call" = String, Path, description = "The call, or `current`")),
    responses((status = 200, body = SoundAnswer), (status = "default", body = Failure)))]
pub(super) async fn attach_sound(
    State(context): Node,
    Path(call): Path<String>,
    Body(offer): Body<SoundOffer>,
) -> Answer<SoundAnswer> {
    ask(&context, |reply| Request::AttachSound { call: named(call), offer, reply }).await
}

/// Which attachment.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct DetachQuery {
    /// Only if it is this one that holds the sound; default: whichever does.
    attachment: Option<u64>,
}

/// Takes the sound from the page that holds it; the call goes on, and silence is sent.
#[utoipa::path(delete, path = "/api/calls/{call}/sound", tag = "calls", params(
    ("call" = String, Path, description = "The call, or `current`"), DetachQuery),
    responses((status = 200, description = "No page holds it, or another one"),
              (status = "default", body = Failure)))]
pub(super) async fn detach_sound(
    State(context): Node,
    Path(call): Path<String>,
    Query(query): Query<DetachQuery>,
) -> Answer<()> {
    let attachment = query.attachment;
    ask(&context, |reply| Request::DetachSound { call: named(call), attachment, reply }).await
}

/// Declines a call that rings here.
#[utoipa::path(post, path = "/api/calls/{call}/decline", tag = "calls",
    params(("call" = String, Path, description = "The call, or `current`")),
    responses((status = 200, body = CallSummary), (status = "default", body = Failure)))]
pub(super) async fn decline_call(State(context): Node, Path(call): Path<String>) -> Answer<CallSummary> {
    ask(&context, |reply| Request::Decline { call: named(call), reply }).await
}

/// Hangs up, or gives a call up that rings there.
#[utoipa::path(post, path = "/api/calls/{call}/hangup", tag = "calls",
    params(("call" = String, Path, description = "The call, or `current`")),
    responses((status = 200, body = CallSummary), (status = "default", body = Failure)))]
pub(super) async fn hang_up_call(State(context): Node, Path(call): Path<String>) -> Answer<CallSummary> {
    ask(&context, |reply| Request::HangUp { call: named(call), reply }).await
}

/// Why a call goes, or went, as it does: what this end observed, and what it means in sentences.
#[utoipa::path(get, path = "/api/calls/{call}/why", tag = "calls",
    params(("call" = String, Path, description = "The call or the beginning of its name, or `current`")),
    responses((status = 200, body = CallWhy), (status = "default", body = Failure)))]
pub(super) async fn why(State(context): Node, Path(call): Path<String>) -> Answer<CallWhy> {
    ask(&context, |reply| Request::Why { call: named(call), reply }).await
}

fn named(call: String) -> String {
    if call == CURRENT { String::new() } else { call }
}

/// Why this node is connected to so many machines: every connection, its role and its purpose.
#[utoipa::path(get, path = "/api/connections", tag = "node",
    responses((status = 200, body = Vec<ConnectionView>), (status = "default", body = Failure)))]
pub(super) async fn connections(State(context): Node) -> Answer<Vec<ConnectionView>> {
    ask(&context, Request::Connections).await
}

/// What kind of network this machine is in. Asks supernodes that are known; takes up to 3 s.
#[utoipa::path(get, path = "/api/network", tag = "node",
    responses((status = 200, body = NetworkReport), (status = "default", body = Failure)))]
pub(super) async fn network(State(context): Node) -> Answer<NetworkReport> {
    ask(&context, Request::Network).await
}

/// How to stop.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShutdownRequest {
    /// How long calls get to end or move; default and most 10,000.
    drain_ms: Option<u64>,
}

/// Stops the node in good order.
#[utoipa::path(post, path = "/api/shutdown", tag = "node", request_body = ShutdownRequest,
    responses((status = 200, description = "It is stopping"), (status = "default", body = Failure)))]
pub(super) async fn shutdown(State(context): Node, Body(request): Body<ShutdownRequest>) -> Answer<()> {
    let drain = Duration::from_millis(request.drain_ms.unwrap_or(DRAIN_DEFAULT_MS).min(DRAIN_DEFAULT_MS));
    ask(&context, |reply| Request::Shutdown { drain, reply }).await
}

/// The node's figures as Prometheus text.
#[utoipa::path(get, path = "/metrics", tag = "node",
    responses((status = 200, body = String, content_type = "text/plain"), (status = "default", body = Failure)))]
pub(super) async fn metrics_text(State(context): Node) -> Result<Response, Refusal> {
    let snapshot = context.node.ask(Request::Metrics).await.map_err(Refusal)?;
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, metrics::render(&snapshot)).into_response())
}

/// This description of the API.
#[utoipa::path(get, path = "/api/openapi.json", tag = "node", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(super) async fn openapi_document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::openapi_json()).into_response()
}

/// Whatever is not the API's is the page's.
async fn page_or_nothing(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let is_api = uri.path().split('/').nth(1) == Some("api");
    let reads = method == Method::GET || method == Method::HEAD;
    let found = (reads && !is_api).then(|| assets::answer(assets::EMBEDDED, uri.path(), &headers)).flatten();
    match found {
        Some(response) => response,
        None => nothing_here().await.into_response(),
    }
}

async fn nothing_here() -> Refusal {
    let problem: Problem = Code::NotFound.problem();
    Refusal(problem)
}
