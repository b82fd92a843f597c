//! The node: the daemon between the cores, the overlay, the disk and the local API.

pub mod overlay;
