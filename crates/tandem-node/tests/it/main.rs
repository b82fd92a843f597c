//! Integration tests of the node, on real sockets of this machine.

mod api;
mod config;
mod keys;
mod node;
mod overlay;
mod overlay_identity;
mod overlay_records;
mod overlay_world;
mod store;
