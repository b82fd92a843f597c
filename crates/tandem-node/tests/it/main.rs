//! Integration tests of the node, on real sockets of this machine.

#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "a test ends where something it needs is missing"
)]

mod api;
mod api_page;
mod circuit_tap;
mod config;
mod election_wire;
mod keys;
mod network;
mod node;
mod node_calls;
mod node_devices;
mod node_election;
mod node_policy;
mod node_privacy;
mod node_private;
mod node_strangers;
mod node_trouble;
mod node_views;
mod node_volunteer;
mod overlay;
mod overlay_checks;
mod overlay_crawler;
mod overlay_identity;
mod overlay_networks;
mod overlay_records;
mod overlay_reservations;
mod overlay_standby;
mod overlay_world;
mod recorder;
mod store;
