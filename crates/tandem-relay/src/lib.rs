//! A STUN (RFC 8489) and TURN (RFC 8656) server that only ever switches packets between the two allocations of
//! one call.
//!
//! * [`server::Server`] is the sans-IO core: a packet and the time go in, a [`server::Verdict`] comes out.
//! * [`driver`] (feature `driver`) owns the sockets and one thread, and feeds the core in batches.
//! * [`credentials::Credentials`] says whose passwords are believed and which call they belong to.
//!
//! The policy in one sentence: **the relay never sends a packet to anyone who has not authenticated to it**, other
//! than a short, rate-limited answer to whoever asked. Each allocation's relayed address is virtual (198.18.0.0/15)
//! and its only possible peer is the other allocation of the same call, so there is no address anybody could name
//! that would make the relay send to a third party. `spec/relay.md` has the normative text.
//!
//! The message library logs malformed packets at WARN: an embedder sets its targets (`stun_types`) to ERROR, or
//! strangers can fill its log.

pub mod client;
pub mod config;
pub mod credentials;
#[cfg(feature = "driver")]
pub mod driver;
pub mod framing;
pub mod server;
#[cfg(test)]
mod testing;
