//! Integration tests of the policy: forced time, no sleeps, no sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod call;
mod call_end;
mod call_guard;
mod call_hostile;
mod call_lines;
mod call_network;
mod call_redraw;
mod call_revoked;
mod call_trouble;
mod call_world;
mod crowd;
mod crowd_supernodes;
mod crowd_world;
mod election;
mod election_hostile;
mod homes_hostile;
mod leaves;
mod memory;
mod random;
mod service;
mod service_election;
mod service_enumerator;
mod service_invitations;
mod service_revoked;
mod service_standing;
mod spread;
mod strangers;
mod walk;
mod world;
