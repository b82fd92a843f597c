//! Who may ask at all.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
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
    let headers = request.headers();
    let may = host_fits(&context, headers) && origin_fits(&context, headers) && is_asked_for(headers);
    if !may {
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
    // The page's files say it themselves.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// What the page may do, and what other pages may not do with it. Nothing is loaded from elsewhere, nothing is run or styled
/// that is not a file of the program, and no other page shows, opens or reads this one.
const HEADERS: [(&str, &str); 7] = [
    ("x-content-type-options", "nosniff"),
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
         media-src 'self' blob:; connect-src 'self'; font-src 'self'; manifest-src 'self'; worker-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "microphone=(self), camera=(self), geolocation=(), display-capture=(), usb=(), serial=(), payment=()",
    ),
];

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

/// A browser says who asks (Fetch Metadata): our own page, a person who typed or followed a link, or another page, which
/// then must not even learn what is here. Programs say nothing.
fn is_asked_for(headers: &HeaderMap) -> bool {
    let said = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match said("sec-fetch-site") {
        None | Some("same-origin" | "none") => true,
        Some(_) => said("sec-fetch-mode") == Some("navigate") && said("sec-fetch-dest") == Some("document"),
    }
}

fn known(context: &Context, host: &str) -> bool {
    context.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
}
