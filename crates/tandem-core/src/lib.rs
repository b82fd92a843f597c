//! Sans-IO policy: what a node decides. No clock, no randomness of its own, no I/O.
//!
//! Every machine is fed with `handle_*(…, now)`, says what it wants through `poll_command` and when to be woken through
//! `poll_timeout`. The node and the simulator drive the same code.

pub mod admission;
pub mod backoff;
pub mod call;
pub mod dialing;
pub mod election;
pub mod homes;
pub mod lookup;
pub mod network;
pub mod peer;
pub mod rates;
pub mod rng;
pub mod service;
pub mod time;
pub mod walk;
