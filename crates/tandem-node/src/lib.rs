//! The node: the daemon between the cores, the overlay, the disk and the local API.

pub mod api;
pub mod bundle;
pub mod config;
pub mod handle;
pub mod installation;
pub mod keys;
pub mod logging;
pub mod messages;
pub mod network_check;
mod node;
pub mod overlay;
pub mod platform;
pub mod policy;
pub mod store;
mod stun;
mod tap;
pub mod why;

pub use node::volunteering;
pub use node::{Door, JOIN_WITHIN, Joined, Scout, ScoutNews, join, start};
#[cfg(feature = "tap")]
pub use tap::warn_if_on as warn_if_tapped;

/// What this program calls itself in every hello.
#[must_use]
pub fn software() -> String {
    concat!("tandem/", env!("CARGO_PKG_VERSION")).to_owned()
}
