//! Who may ask at all.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::body::Refusal;
use super::{Context, REQUEST_TIME};
use crate::messages::Code;

/// What the header `Host` may say at this address.
pub(super) fn hosts(address: SocketAddr) -> Vec<String> {
    let port = address.port();
    let mut hosts = vec![address.to_string(), format!("localhost:{port}")];
    if address.ip() == IpAddr::from([127, 0, 0, 1]) {
        hosts.push(format!("127.0.0.1:{port}"));
    }
    hosts
}

/// For every request: host name, origin, a time limit; and headers that keep a browser from guessing or keeping.
pub(super) async fn outer(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    if !host_fits(&context, request.headers()) || !origin_fits(&context, request.headers()) {
        return Refusal(Code::ForeignHost.problem()).into_response();
    }
    let mut response = match tokio::time::timeout(REQUEST_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let seconds = REQUEST_TIME.as_secs().to_string();
            Refusal(Code::NodeTimeout.with(&[("seconds", &seconds)])).into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// For every request but those that need none: the token, as `Authorization: Bearer …` (RFC 6750 §2.1).
pub(super) async fn token(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    if !given.is_some_and(|given| token_fits(&context, given)) {
        return Refusal(Code::Unauthorised.problem()).into_response();
    }
    next.run(request).await
}

pub(super) fn token_fits(context: &Context, given: &str) -> bool {
    given.as_bytes().ct_eq(context.token.as_bytes()).into()
}

fn host_fits(context: &Context, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    host.to_str().is_ok_and(|host| known(context, host))
}

/// Programs send no `Origin`; a browser does, and it must be our own page's.
fn origin_fits(context: &Context, headers: &HeaderMap) -> bool {
    headers.get_all(header::ORIGIN).iter().all(|origin| {
        let host = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
        host.is_some_and(|host| known(context, host))
    })
}

fn known(context: &Context, host: &str) -> bool {
    context.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
}
