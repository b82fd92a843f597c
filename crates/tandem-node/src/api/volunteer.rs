//! The routes about serving others.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::routing::{get, put};
use serde::Deserialize;
use tandem_api::{CapsChange, Failure, LedgerView, NewConsent, VolunteerView};
use utoipa::IntoParams;

use super::Context;
use super::body::{Answer, Body};
use super::routes::{Node, ask};
use crate::handle::{Request, VolunteerRequest};

/// Days shown when nobody says how many.
const DAYS_DEFAULT: u64 = 30;

pub(super) fn routes() -> Router<Arc<Context>> {
    Router::new()
        .route("/api/volunteer", get(view).delete(withdraw))
        .route("/api/volunteer/consent", put(accept))
        .route("/api/volunteer/caps", put(set_caps))
        .route("/api/volunteer/ledger", get(ledger))
}

/// The terms, the owner's consent and caps, and what this node does for others now.
#[utoipa::path(get, path = "/api/volunteer", tag = "volunteer",
    responses((status = 200, body = VolunteerView), (status = "default", body = Failure)))]
pub(super) async fn view(State(context): Node) -> Answer<VolunteerView> {
    ask(&context, |reply| Request::Volunteer(VolunteerRequest::View(reply))).await
}

/// Takes consent back. What is served is drained: clients and calls get a minute to move.
#[utoipa::path(delete, path = "/api/volunteer", tag = "volunteer",
    responses((status = 200, body = VolunteerView), (status = "default", body = Failure)))]
pub(super) async fn withdraw(State(context): Node) -> Answer<VolunteerView> {
    ask(&context, |reply| Request::Volunteer(VolunteerRequest::Withdraw(reply))).await
}

/// Agrees to the terms, for exactly the roles named.
#[utoipa::path(put, path = "/api/volunteer/consent", tag = "volunteer", request_body = NewConsent,
    responses((status = 200, body = VolunteerView), (status = "default", body = Failure)))]
pub(super) async fn accept(State(context): Node, Body(new): Body<NewConsent>) -> Answer<VolunteerView> {
    ask(&context, |reply| Request::Volunteer(VolunteerRequest::Accept(new, reply))).await
}

/// Sets caps. What is absent stays.
#[utoipa::path(put, path = "/api/volunteer/caps", tag = "volunteer", request_body = CapsChange,
    responses((status = 200, body = VolunteerView), (status = "default", body = Failure)))]
pub(super) async fn set_caps(State(context): Node, Body(change): Body<CapsChange>) -> Answer<VolunteerView> {
    ask(&context, |reply| Request::Volunteer(VolunteerRequest::SetCaps(change, reply))).await
}

/// How far back.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct LedgerQuery {
    /// The last days, today among them; default 30.
    days: Option<u64>,
}

/// What was served, by days. It does not say to whom: that is not written down.
#[utoipa::path(get, path = "/api/volunteer/ledger", tag = "volunteer", params(LedgerQuery),
    responses((status = 200, body = LedgerView), (status = "default", body = Failure)))]
pub(super) async fn ledger(State(context): Node, Query(query): Query<LedgerQuery>) -> Answer<LedgerView> {
    let days = query.days.unwrap_or(DAYS_DEFAULT);
    ask(&context, |reply| Request::Volunteer(VolunteerRequest::Ledger { days, reply })).await
}
