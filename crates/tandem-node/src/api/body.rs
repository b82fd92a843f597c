//! Bodies in and out.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use tandem_api::{Failure, Problem};

use crate::messages::Code;

/// A problem as an answer: the status fits the code, the body is a [`Failure`].
#[derive(Debug)]
pub(super) struct Refusal(pub(super) Problem);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (status(&self.0.code), Json(Failure { error: self.0 })).into_response()
    }
}

/// What a handler answers.
pub(super) type Answer<T> = Result<Json<T>, Refusal>;

/// JSON in, with our own words when it is none.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match <Json<T> as FromRequest<S>>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(refusal(&rejection)),
        }
    }
}

/// No body at all, or one that is understood.
impl<S: Send + Sync, T: DeserializeOwned> OptionalFromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Refusal> {
        let given = <Json<T> as OptionalFromRequest<S>>::from_request(request, state).await;
        given.map(|body| body.map(|Json(value)| Self(value))).map_err(|rejection| refusal(&rejection))
    }
}

fn refusal(rejection: &JsonRejection) -> Refusal {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Refusal(Code::TooLarge.problem());
    }
    Refusal(Code::BadRequest.with(&[("detail", &rejection.body_text())]))
}

fn status(code: &str) -> StatusCode {
    let is = |codes: &[Code]| codes.iter().any(|known| known.entry().code == code);
    if is(&[Code::Unauthorised, Code::PageCode]) {
        StatusCode::UNAUTHORIZED
    } else if is(&[Code::ForeignHost]) {
        StatusCode::FORBIDDEN
    } else if is(&[Code::NotFound, Code::NoSuchCall, Code::NoSuchContact]) {
        StatusCode::NOT_FOUND
    } else if is(&[
        Code::BadRequest,
        Code::AddressWrong,
        Code::LinkWrong,
        Code::BlockOwn,
        Code::ContactName,
        Code::SoundFile,
        Code::CallSelf,
        Code::SoundOffer,
    ]) {
        StatusCode::BAD_REQUEST
    } else if is(&[Code::ContactExists, Code::CallState, Code::WhichCall, Code::NoPageHere]) {
        StatusCode::CONFLICT
    } else if is(&[Code::TooLarge]) {
        StatusCode::PAYLOAD_TOO_LARGE
    } else if is(&[Code::TooManyCalls, Code::TooManyListeners, Code::ContactsFull, Code::PageTries]) {
        StatusCode::TOO_MANY_REQUESTS
    } else if is(&[Code::NodeTimeout]) {
        StatusCode::GATEWAY_TIMEOUT
    } else if is(&[Code::Internal]) {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        // The node cannot do it now: busy, stopping, no supernode in sight.
        StatusCode::SERVICE_UNAVAILABLE
    }
}
