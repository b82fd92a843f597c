//! The running node: one loop that hears the swarms, the media, the person and the clock, lets policy decide, and
//! executes.
//!
//! `event_loop` is that loop; `phone` is a device and its calls; `supernode` is what a volunteer serves, `election`
//! when, `scout` asks others about it; `media` is the sound of a call, in a thread of its own; `requests` and `views`
//! answer the person.

mod auditing;
mod call_log;
pub(crate) mod clock;
mod connections;
mod devices;
mod election;
mod ending;
mod event_loop;
mod joining;
mod listening;
mod measuring;
mod media;
mod memory;
mod networks;
mod outbox;
mod peers;
mod phone;
pub(crate) mod port_mapping;
mod private;
mod quality;
mod requests;
mod scout;
mod start;
mod strangers;
mod supernode;
mod views;
pub mod volunteering;

pub use joining::{JOIN_WITHIN, Joined, join};
pub(crate) use memory::device_labels;
pub(crate) use phone::PhoneId;
pub use scout::{Door, Scout, ScoutNews};
pub use start::start;
