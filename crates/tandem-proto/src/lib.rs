//! What Tandem puts on the wire: messages, identifiers, signed records, grants. No clock, no I/O.
//!
//! The normative text is `spec/`; each module names its page. Times come in as arguments (`unix_ms`), random bytes
//! too, so everything here is a pure function of its input. Nothing an outsider sends can make it panic.

mod domain;
pub mod draw;
pub mod frame;
pub mod grant;
pub mod identity;
pub mod ids;
pub mod leaving;
pub mod multiaddr;
pub mod names;
pub mod network;
pub mod record;
pub mod request;
pub mod retry_after;
pub mod signed;
pub mod wire;
