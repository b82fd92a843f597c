//! The WebSocket `/api/events`. A browser cannot set headers on it, so the token comes as the first message.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use tandem_api::{API_VERSION, EventsHello, NodeEvent};
use tokio::sync::broadcast::error::RecvError;

use super::body::Refusal;
use super::{Context, guard, signalled};
use crate::messages::Code;

/// A client says who it is within this time.
const HELLO_TIME: Duration = Duration::from_secs(5);
/// A client takes a message within this time, or is dropped.
const SEND_TIME: Duration = Duration::from_secs(10);
/// So often a quiet connection is tried, so that a dead one is found.
const PING_EVERY: Duration = Duration::from_secs(30);
/// What a client sends is one short message.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Close code for a wrong token, of the range for private use (RFC 6455 §7.4.2).
const CLOSE_UNAUTHORISED: u16 = 4401;

/// Events as they happen. The first message to send is `{"token":"…"}`; the first to come is `{"type":"welcome",…}`.
#[utoipa::path(get, path = "/api/events", tag = "events", security(()),
    responses((status = 101, description = "WebSocket; each message is a NodeEvent", body = NodeEvent),
              (status = 429, description = "Too many listeners", body = tandem_api::Failure)))]
pub(super) async fn events(State(context): State<Arc<Context>>, upgrade: WebSocketUpgrade) -> Response {
    let Ok(permit) = Arc::clone(&context.listeners).try_acquire_owned() else {
        return Refusal(Code::TooManyListeners.problem()).into_response();
    };
    upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX).on_upgrade(
        async move |mut socket| {
            if hello(&context, &mut socket).await {
                forward(&context, &mut socket).await;
            }
            drop(permit);
        },
    )
}

/// Waits for the token. Says whether it was right; a wrong one is told so.
async fn hello(context: &Context, socket: &mut WebSocket) -> bool {
    let first = tokio::time::timeout(HELLO_TIME, socket.recv()).await;
    let Ok(Some(Ok(Message::Text(text)))) = first else { return false };
    let given = serde_json::from_str::<EventsHello>(&text);
    if given.is_ok_and(|hello| guard::token_fits(context, &hello.token)) {
        return true;
    }
    let reason = Code::Unauthorised.entry().message.into();
    let close = Message::Close(Some(CloseFrame { code: CLOSE_UNAUTHORISED, reason }));
    // Whether it hears this or is gone already, it is over.
    drop(tokio::time::timeout(SEND_TIME, socket.send(close)).await);
    false
}

async fn forward(context: &Context, socket: &mut WebSocket) {
    // Listening begins before the welcome, so that whoever was welcomed misses nothing.
    let mut events = context.node.events();
    if !send(socket, &NodeEvent::Welcome { api_version: API_VERSION }).await {
        return;
    }
    let stop = signalled(context.stop.clone());
    tokio::pin!(stop);
    let mut ping = tokio::time::interval(PING_EVERY);
    loop {
        let alive = tokio::select! {
            event = events.recv() => match event {
                Ok(event) => send(socket, &event).await,
                Err(RecvError::Lagged(events)) => send(socket, &NodeEvent::Missed { events }).await,
                Err(RecvError::Closed) => false,
            },
            message = socket.recv() => matches!(message, Some(Ok(message)) if !matches!(message, Message::Close(_))),
            _ = ping.tick() => send_message(socket, Message::Ping(Vec::new().into())).await,
            () = &mut stop => false,
        };
        if !alive {
            return;
        }
    }
}

async fn send(socket: &mut WebSocket, event: &NodeEvent) -> bool {
    match serde_json::to_string(event) {
        Ok(json) => send_message(socket, Message::Text(json.into())).await,
        Err(error) => {
            tracing::error!(%error, "an event could not be written as JSON");
            true
        }
    }
}

async fn send_message(socket: &mut WebSocket, message: Message) -> bool {
    matches!(tokio::time::timeout(SEND_TIME, socket.send(message)).await, Ok(Ok(())))
}
