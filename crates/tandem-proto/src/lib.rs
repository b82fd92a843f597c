//! What Tandem puts on the wire: messages, identifiers, signed records, grants. No clock, no I/O.
//!
//! The normative text is `spec/`; each module names its page.

pub mod ids;
pub mod wire;
