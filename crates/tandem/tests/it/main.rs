//! The real binary, as a script uses it: the forms that scripts rely on, over real sockets on 127.N.0.1.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is missing")]

mod bundle;
mod devices;
mod forms;
mod policy;
mod private;
mod strangers;
mod volunteer;
mod world;
