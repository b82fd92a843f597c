//! What somebody who calls, or is called, cannot get out of this end: its address, its papers, a ring.

use tandem_core::call::*;
use tandem_proto::identity::{InvitationSecret, InvitedCall};
use tandem_proto::ids::ServiceKey;
use tandem_proto::signed::DeviceEntry;
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{Candidate, Candidates, SignalFrame};

use crate::call_world::{START, World, certificate};

const ALICE: usize = 0;
const BOB: usize = 1;
const MALLORY: usize = 2;

fn shows_address(frame: &SignalFrame) -> bool {
    matches!(&frame.body, Some(Body::Candidates(frame)) if frame.candidates.iter().any(|c| c.kind < 2))
}

// ---- relays -----------------------------------------------------------------------------------------------------

#[test]
fn a_relay_that_only_a_stranger_vouches_for_is_never_used() {
    for (caller, callee) in [(MALLORY, BOB), (BOB, MALLORY)] {
        let mut world = World::people(3, 13);
        // Eight of her own, which no home has heard of.
        world.unlisted = world.supernodes[5..].iter().map(|s| s.key).collect();
        world.set_relays(BOB, 0..5);
        world.set_relays(MALLORY, 5..13);
        world.nodes[callee].auto_answer = true;
        world.place(caller, callee);
        world.run(2_000);
        assert!(world.talks(BOB) && world.talks(MALLORY), "by those that Bob vouches for");
        world.run(10_000);
        let used = world.nodes[BOB].media.values().flat_map(|media| media.relays.keys());
        assert!(used.clone().count() >= 2);
        assert!(used.clone().all(|relay| !world.unlisted.contains(relay)), "caller {caller}");
    }
}

#[test]
fn relays_that_only_the_other_end_vouches_for_are_used_once_a_home_knows_them() {
    let mut world = World::people(2, 12);
    world.set_relays(ALICE, 0..0);
    world.set_relays(BOB, 4..12);
    world.nodes[BOB].auto_answer = true;
    world.place(ALICE, BOB);
    world.run(1_500);
    assert!(world.talks(ALICE) && world.talks(BOB));
    assert_eq!(world.relays(ALICE), world.relays(BOB), "both began with the same ones");
    assert_eq!(world.relays(ALICE).len(), 2);
}

/// Into how many of the list's other relays a candidate of the caller draws the callee.
fn followed(contacts: bool) -> usize {
    let begin = || {
        let mut world = World::people(2, 8);
        if contacts {
            world.befriend();
        }
        world.nodes[BOB].auto_answer = true;
        world.place(ALICE, BOB);
        world.run(2_000);
        world
    };
    let first = begin();
    let used = first.relays(BOB);
    let others = first.supernodes.iter().map(|s| s.key).filter(|key| !used.contains(key));
    let others: Vec<ServiceKey> = others.collect();
    assert_eq!(others.len(), 6);
    let follows = |relay: &&ServiceKey| {
        let mut world = begin();
        let signal = world.newest_signal(BOB);
        let candidate = Candidate {
            kind: 2,
            address: vec![198, 18, 0, 9],
            port: 9,
            relay: relay.0.to_vec(),
            priority: 1,
        };
        let frame = Candidates { generation: 0, candidates: vec![candidate] };
        let frame = SignalFrame { body: Some(Body::Candidates(frame)) };
        world.act(BOB, |calls, now| calls.handle_frame(signal, frame, now));
        world.run(500);
        world.relays(BOB).contains(relay)
    };
    others.iter().filter(follows).count()
}

#[test]
fn whoever_may_not_see_addresses_does_not_choose_among_the_relays_of_the_list() {
    assert_eq!(followed(false), 1, "only the next of the list");
    assert_eq!(followed(true), 6, "a contact knows the address anyway");
}

// ---- papers -----------------------------------------------------------------------------------------------------

#[test]
fn a_device_that_has_proved_no_account_is_told_nothing() {
    let mut world = World::people(2, 5);
    let alice = world.nodes[ALICE].device;
    let signal = world.rogue_stream(alice, BOB);
    world.run(1_000);
    assert_eq!(world.nodes[BOB].sent, []);
    let hello = world.nodes[ALICE].calls.hello(world.now);
    let frame = SignalFrame { body: Some(Body::Hello(hello)) };
    world.act(BOB, |calls, now| calls.handle_frame(signal, frame, now));
    assert_eq!(world.count_sent(BOB, |body| matches!(body, Body::Hello(_))), 1);
}

#[test]
fn a_renewed_certificate_ends_no_call() {
    let mut world = World::people(2, 5);
    world.nodes[BOB].auto_answer = true;
    world.place(ALICE, BOB);
    world.run(2_000);
    let (bob, device) = (world.nodes[BOB].account, world.nodes[BOB].device);
    world.set_devices(bob, &[DeviceEntry { device, serial: 7 }]);
    let newest = world.set_of(bob);
    world.act(ALICE, |calls, now| calls.handle_device_set(&newest, now));
    world.run(60_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
    // The next stream shows the new one.
    world.cut_signalling();
    world.run(5_000);
    let signalling = |node: usize| world.nodes[node].calls.status().is_some_and(|status| status.signalling);
    assert!(signalling(ALICE) && signalling(BOB));
}

#[test]
fn an_invitation_is_proved_and_not_told() {
    let mut world = World::people(2, 5);
    let secret = InvitationSecret([9; 20]);
    let invited = CallOptions { invitation: Some(secret), ..CallOptions::default() };
    let shown = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let offers = shown.clone();
    // The callee's papers never come: the offer may go all the same, since what it shows is of use for nothing else.
    world.tamper = Some(Box::new(move |from, frame| {
        if let Some(Body::Offer(offer)) = &frame.body {
            offers.borrow_mut().push(offer.clone());
        }
        let hides = from == BOB && matches!(frame.body, Some(Body::Hello(_)));
        (!hides).then_some(frame)
    }));
    world.place_with(ALICE, BOB, invited);
    world.run(5_000);
    let shown = shown.borrow();
    let offer = shown.first().expect("an offer went out");
    let call = InvitedCall {
        caller: world.nodes[ALICE].account,
        callee: world.nodes[BOB].account,
        device: world.nodes[BOB].device,
        call: offer.call_id.as_slice().try_into().unwrap(),
    };
    assert_eq!(offer.invitation, secret.hash().proof(&call));
    let another_device = InvitedCall { device: world.nodes[ALICE].device, ..call };
    assert!(!secret.hash().proves(&offer.invitation, &another_device));
}

#[test]
fn after_a_restart_what_was_revoked_before_stays_revoked() {
    for keeps_set in [true, false] {
        let mut world = World::people(2, 5);
        let (alice, bob) = (world.nodes[ALICE].account, world.nodes[BOB].account);
        let old = world.set_of(bob);
        // A new phone took the old one's place; the old one shows what it has.
        world.add_devices(bob, 1, vec![1, 2, 3]);
        let new = world.nodes[MALLORY].device;
        world.set_devices(bob, &[DeviceEntry { device: new, serial: 2 }]);
        let papers = certificate(world.secret_of(bob), world.nodes[BOB].device, 1).signed().clone();
        world.nodes[BOB].calls.set_identity(papers, old.signed().clone());
        let newest = world.set_of(bob);
        let calls = &mut world.nodes[ALICE].calls;
        calls.set_contacts(vec![bob]);
        calls.set_seen(bob, newest.epoch(), keeps_set.then_some(&newest), START);
        calls.set_seen(alice, 9, None, START);
        world.place(BOB, ALICE);
        world.run(1_000);
        assert_eq!((world.rings(ALICE), world.end_reason(BOB)), (vec![], Some(EndReason::NotTrusted)));
        // The new phone rings.
        let call = world.place(MALLORY, ALICE);
        world.run(1_000);
        assert_eq!(world.rings(ALICE), [call]);
    }
}

// ---- a ring -----------------------------------------------------------------------------------------------------

/// Alice's program starts again in the middle of a call, and calls.
fn start_again(world: &mut World) {
    world.run(7_000);
    assert!(world.talks(BOB));
    (world.nodes[BOB].commands, world.nodes[ALICE].commands) = (Vec::new(), Vec::new());
    world.set_rules(ALICE, StrangerRules { mode: Strangers::Ring, ..StrangerRules::default() });
    world.place(ALICE, BOB);
    world.run(2_000);
    assert!(world.ended(BOB).is_some(), "the old call is over for her");
    assert_eq!(world.rings(BOB), []);
}

#[test]
fn a_stranger_who_was_called_does_not_ring_by_that() {
    let mut world = World::people(2, 5);
    world.nodes[BOB].calls.set_strangers(Strangers::Requests);
    world.nodes[ALICE].auto_answer = true;
    world.place(BOB, ALICE);
    start_again(&mut world);
}

#[test]
fn who_was_blocked_during_a_call_does_not_ring_by_that() {
    let mut world = World::people(2, 5);
    world.befriend();
    world.nodes[BOB].auto_answer = true;
    world.place(ALICE, BOB);
    world.run(1_000);
    let alice = world.nodes[ALICE].account;
    world.nodes[BOB].calls.set_contacts(Vec::new());
    world.nodes[BOB].calls.set_blocked(vec![alice]);
    start_again(&mut world);
    assert_eq!(
        world.end_reason(ALICE),
        Some(EndReason::Busy),
        "as any stranger may hear where strangers ring"
    );
}

#[test]
fn relays_only_holds_for_a_call_that_rings_already() {
    for prepared in [false, true] {
        let mut world = World::people(2, 5);
        world.befriend();
        world.nodes[BOB].media_delay_ms = if prepared { 1 } else { 1_000 };
        world.place(ALICE, BOB);
        world.run(500);
        assert_eq!(world.stage(BOB), Some(Stage::Ringing));
        let before = world.nodes[BOB].sent.iter().filter(|frame| shows_address(frame)).count();
        assert_eq!(before > 0, prepared);
        world.place_with(BOB, ALICE, CallOptions { relay_only: true, ..CallOptions::default() });
        let notes = world.nodes[BOB].calls.status().unwrap().notes.join(" ");
        assert_eq!(notes.contains("had been shown"), prepared, "{notes}");
        assert!(notes.contains("relays only"), "{notes}");
        world.run(3_000);
        assert!(world.talks(ALICE) && world.talks(BOB));
        let after = world.nodes[BOB].sent.iter().filter(|frame| shows_address(frame)).count();
        assert_eq!(after, before, "no more of them");
        if !prepared {
            assert!(!world.nodes[ALICE].sent.iter().any(shows_address), "Ringing said so in time");
        }
    }
}
