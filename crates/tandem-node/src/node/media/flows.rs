//! What the audit log is told of a call's packets: with whom, over what, how many bytes. Without a log nothing is kept.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::json;
use tandem_media::session::{SocketId, SocketKind, SocketPurpose};

use crate::installation::unix_ms;
use crate::policy::Audit;

/// Places that one socket is told of: a direct path tries several addresses of the other side.
const PLACES_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Flows {
    audit: Audit,
    sockets: BTreeMap<SocketId, Open>,
}

#[derive(Debug)]
struct Open {
    /// The relay; `None`: the other side itself.
    relay: Option<String>,
    transport: &'static str,
    places: Vec<Flow>,
}

#[derive(Debug)]
struct Flow {
    at: SocketAddr,
    since_unix_ms: u64,
    received: u64,
    sent: u64,
    told: bool,
}

impl Flows {
    pub(super) fn new(audit: Audit) -> Self {
        Self { audit, sockets: BTreeMap::new() }
    }

    pub(super) fn opened(&mut self, id: SocketId, kind: &SocketKind) {
        if !self.audit.is_on() {
            return;
        }
        let (relay, transport) = match kind {
            SocketKind::Udp { purpose: SocketPurpose::Relay(service), .. } => {
                (Some(service.to_string()), "udp")
            }
            SocketKind::Udp { purpose: SocketPurpose::Host, .. } => (None, "udp"),
            SocketKind::Tcp { relay, .. } => (Some(relay.to_string()), "tcp"),
        };
        self.sockets.insert(id, Open { relay, transport, places: Vec::new() });
    }

    pub(super) fn sent(&mut self, id: SocketId, to: SocketAddr, bytes: usize) {
        self.count(id, to, 0, bytes);
    }

    pub(super) fn received(&mut self, id: SocketId, from: SocketAddr, bytes: usize) {
        self.count(id, from, bytes, 0);
    }

    fn count(&mut self, id: SocketId, at: SocketAddr, received: usize, sent: usize) {
        let Some(open) = self.sockets.get_mut(&id) else { return };
        let place = match open.places.iter().position(|flow| flow.at == at) {
            Some(place) => place,
            // Nobody whom nothing was sent to fills the list.
            None if sent == 0 || open.places.len() >= PLACES_MAX => return,
            None => {
                let since_unix_ms = unix_ms();
                open.places.push(Flow { at, since_unix_ms, received: 0, sent: 0, told: false });
                open.places.len() - 1
            }
        };
        let flow = &mut open.places[place];
        flow.received = flow.received.saturating_add(u64::try_from(received).unwrap_or(u64::MAX));
        flow.sent = flow.sent.saturating_add(u64::try_from(sent).unwrap_or(u64::MAX));
        // A place that answers is a connection; one that does not was an attempt.
        if !flow.told && flow.received > 0 {
            flow.told = true;
            self.audit.note("connection_opened", told(open.relay.as_deref(), open.transport, flow.at));
        }
    }

    pub(super) fn closed(&mut self, id: SocketId) {
        let Some(open) = self.sockets.remove(&id) else { return };
        for flow in open.places.iter().filter(|flow| flow.told) {
            let mut told = told(open.relay.as_deref(), open.transport, flow.at);
            if let Some(told) = told.as_object_mut() {
                let lasted_ms = unix_ms().saturating_sub(flow.since_unix_ms);
                told.insert("lasted_ms".to_owned(), lasted_ms.into());
                told.insert("bytes_in".to_owned(), flow.received.into());
                told.insert("bytes_out".to_owned(), flow.sent.into());
            }
            self.audit.note("connection_closed", told);
        }
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        while let Some(id) = self.sockets.keys().next().copied() {
            self.closed(id);
        }
    }
}

fn told(relay: Option<&str>, transport: &str, at: SocketAddr) -> serde_json::Value {
    json!({
        "purpose": if relay.is_some() { "relay" } else { "direct" },
        "peer": relay.unwrap_or("the other side of the call"),
        "address": at.to_string(),
        "transport": transport,
        "outbound": true,
    })
}
