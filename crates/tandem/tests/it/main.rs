//! The real binary, as a script uses it: the forms that scripts rely on, over real sockets on 127.N.0.1.

#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "a test ends where something it needs is missing"
)]

#[expect(dead_code, reason = "the relay's own tests use more of it")]
#[path = "../../../tandem-relay/tests/it/bench.rs"]
mod bench;
mod browser;
mod bundle;
mod devices;
mod forms;
mod page;
mod policy;
mod private;
#[cfg(target_os = "linux")]
mod relay;
mod strangers;
mod volunteer;
#[expect(dead_code, reason = "the relay's own tests use more of it")]
#[path = "../../../tandem-relay/tests/it/wire.rs"]
mod wire;
mod world;
