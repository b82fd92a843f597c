//! A revoked device is out for everybody within a minute, whoever it calls or is called by (forced time).

use tandem_core::call::*;
use tandem_proto::signed::DeviceEntry;
use tandem_proto::wire::signal_frame::Body;

use crate::call_world::{World, certificate};

const ALICE: usize = 0;
const BOB: usize = 1;
/// Bob's second device, which is lost.
const LOST: usize = 2;
/// What "everywhere within a minute" leaves.
const MINUTE_MS: u64 = 60_000;

/// Alice, and Bob with two devices.
fn world() -> World {
    let mut world = World::people(2, 5);
    let bob = world.nodes[BOB].account;
    world.add_devices(bob, 1, vec![1, 2, 3]);
    world
}

/// Bob publishes a set without the lost device, which goes on showing its old papers.
fn revoke(world: &mut World) {
    let bob = world.nodes[BOB].account;
    let (old, device) = (world.set_of(bob), world.nodes[LOST].device);
    let serial = old.devices().iter().find(|entry| entry.device == device).unwrap().serial;
    world.set_devices(bob, &[DeviceEntry { device: world.nodes[BOB].device, serial: 1 }]);
    let papers = certificate(world.secret_of(bob), device, serial).signed().clone();
    world.nodes[LOST].calls.set_identity(papers, old.signed().clone());
}

fn look_ups(world: &World, node: usize) -> usize {
    let look_up = |command: &&Command| matches!(command, Command::LookUp { .. });
    world.nodes[node].commands.iter().filter(look_up).count()
}

#[test]
fn the_callee_looks_the_caller_up_while_it_rings() {
    let mut world = world();
    revoke(&mut world);
    let call = world.place(LOST, ALICE);
    world.run(5_000);
    assert_eq!(world.rings(ALICE), [call], "ringing is not delayed");
    assert_eq!(world.end_reason(ALICE), Some(EndReason::NotTrusted));
    assert_eq!(world.end_reason(LOST), Some(EndReason::NotTrusted));
}

#[test]
fn the_callee_hears_of_it_while_it_rings_on() {
    let mut world = world();
    world.place(LOST, ALICE);
    world.run(5_000);
    assert_eq!(world.stage(ALICE), Some(Stage::Ringing));
    revoke(&mut world);
    world.run(MINUTE_MS - 5_000);
    assert_eq!(world.end_reason(ALICE), Some(EndReason::NotTrusted));
}

#[test]
fn a_call_in_progress_with_it_ends_within_a_minute_whoever_placed_it() {
    for (from, to) in [(ALICE, BOB), (LOST, ALICE)] {
        let mut world = world();
        // Called: only the lost device is there.
        world.nodes[BOB].online = from != ALICE;
        world.nodes[LOST].auto_answer = true;
        world.nodes[ALICE].auto_answer = true;
        world.place(from, to);
        world.run(2_000);
        assert!(world.talks(ALICE) && world.talks(LOST));
        revoke(&mut world);
        world.run(MINUTE_MS);
        assert_eq!(world.end_reason(ALICE), Some(EndReason::NotTrusted), "placed by {from}");
        assert!(world.nodes.iter().all(|node| node.media.is_empty()), "placed by {from}");
    }
}

#[test]
fn a_caller_does_not_confirm_what_was_revoked_while_it_rang() {
    let mut world = world();
    world.nodes[BOB].online = false;
    let call = world.place(ALICE, BOB);
    world.run(1_000);
    assert_eq!(world.rings(LOST), [call]);
    revoke(&mut world);
    world.run(55_000);
    assert!(world.act(LOST, |calls, now| calls.answer(call, now)).is_err(), "it does not ring any more");
    assert_eq!(world.count_sent(ALICE, |body| matches!(body, Body::Confirm(_))), 0);
}

#[test]
fn a_call_that_nobody_revokes_goes_on_and_asks_seldom() {
    let mut world = World::people(2, 5);
    world.nodes[BOB].auto_answer = true;
    world.place(ALICE, BOB);
    world.run(5 * MINUTE_MS);
    assert!(world.talks(ALICE) && world.talks(BOB));
    for node in [ALICE, BOB] {
        assert!((6..=9).contains(&look_ups(&world, node)), "{}", look_ups(&world, node));
    }
}

#[test]
fn an_old_device_set_shown_again_changes_nothing() {
    let mut world = world();
    let bob = world.nodes[BOB].account;
    let old = world.set_of(bob);
    revoke(&mut world);
    let newest = world.set_of(bob);
    world.act(ALICE, |calls, now| calls.handle_device_set(&newest, now));
    world.act(ALICE, |calls, now| calls.handle_device_set(&old, now));
    world.place(LOST, ALICE);
    world.run(2_000);
    assert_eq!(world.rings(ALICE), []);
    assert_eq!(world.end_reason(LOST), Some(EndReason::NotTrusted));
}
