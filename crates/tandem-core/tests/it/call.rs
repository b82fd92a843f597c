//! Calls are placed, ring, are answered or not, and end.

use tandem_core::call::*;
use tandem_proto::signed::{DeviceEntry, DeviceSet};
use tandem_proto::wire::signal_frame::Body;

use crate::call_world::{DELAY_MS, START, World, media};

const ALICE: usize = 0;
const BOB: usize = 1;

fn starts(command: &Command) -> bool {
    matches!(command, Command::StartMedia { .. })
}

fn established(world: &World, node: usize) -> bool {
    world.stage(node) == Some(Stage::Established)
}

#[test]
fn a_call_between_strangers_is_relayed_over_two_relays_that_neither_picked() {
    let mut world = World::people(2, 5);
    let call = world.place(ALICE, BOB);
    world.run(1_000);
    assert_eq!(world.rings(BOB), [call]);
    assert_eq!((world.stage(ALICE), world.stage(BOB)), (Some(Stage::Ringing), Some(Stage::Ringing)));
    assert!(!world.talks(ALICE) && !world.talks(BOB), "no sound before the answer");
    let ready =
        |world: &World, node: usize| world.nodes[node].media.values().next().map_or(0, |m| m.relays.len());
    assert_eq!((ready(&world, ALICE), ready(&world, BOB)), (2, 2), "relays are ready while it rings");

    let connected = |world: &World| world.nodes.iter().all(|n| n.media.values().all(|m| m.connected));
    assert!(connected(&world), "paths are checked and keys made while it rings");
    assert!(world.nodes.iter().all(|node| !node.commands.iter().any(starts)), "no microphone is open");

    world.act(BOB, |calls, now| calls.answer(call, now)).unwrap();
    world.run(DELAY_MS - 5);
    assert!(
        world.nodes.iter().all(|node| !node.commands.iter().any(starts)),
        "nor before the answer is there"
    );
    world.run(500);
    assert!(world.talks(ALICE) && world.talks(BOB));
    assert_eq!(world.relays(ALICE).len(), 2);
    assert_eq!(world.relays(ALICE), world.relays(BOB), "both ends drew the same");
    let direct = |media: &crate::call_world::Media| media.remote_direct;
    assert!(!world.nodes.iter().flat_map(|n| n.media.values()).any(direct), "strangers see no address");

    let setup = world.nodes[ALICE].calls.status().unwrap().setup;
    assert_eq!(setup.lookup, Some(DELAY_MS * 2));
    assert!(setup.ringing.is_some_and(|ms| (DELAY_MS * 6..=DELAY_MS * 10).contains(&ms)), "{setup:?}");
    // Confirm there, sound back; answer there, sound back: a round trip each, and the world's steps of 5 ms.
    assert!(setup.media.is_some_and(|ms| ms <= DELAY_MS * 2 + 10), "{setup:?}");
    let bob = world.nodes[BOB].calls.status().unwrap().setup;
    assert!(bob.media.is_some_and(|ms| ms <= DELAY_MS * 2 + 10), "{bob:?}");

    world.act(ALICE, |calls, now| calls.hang_up(call, now));
    world.run(200);
    assert_eq!(
        (world.end_reason(ALICE), world.end_reason(BOB)),
        (Some(EndReason::HungUp), Some(EndReason::HungUp))
    );
    assert_eq!(world.open_links(), 0, "streams are closed");
    assert!(world.nodes.iter().all(|node| node.media.is_empty()), "media sessions are dropped");
    assert!(world.nodes.iter().all(|node| node.calls.poll_timeout().is_none()), "nothing left to wait for");
}

#[test]
fn contacts_also_talk_directly_unless_one_wants_relays_only() {
    for relay_only in [false, true] {
        let mut world = World::people(2, 5);
        world.befriend();
        world.nodes[BOB].auto_answer = true;
        world.place_with(ALICE, BOB, CallOptions { relay_only, ..CallOptions::default() });
        world.run(2_000);
        assert!(world.talks(ALICE) && world.talks(BOB));
        let direct: Vec<bool> =
            world.nodes.iter().flat_map(|n| n.media.values()).map(|media| media.remote_direct).collect();
        assert_eq!(direct, [!relay_only, !relay_only]);
    }
}

/// Frames of a node that show an address of its own.
fn shown(world: &World, node: usize) -> usize {
    let direct = |body: &Body| matches!(body, Body::Candidates(c) if c.candidates.iter().any(|c| c.kind < 2));
    world.count_sent(node, direct)
}

/// Talks, loses its signalling and opens it again, changes its network.
fn live_through_everything(world: &mut World, call: CallId) {
    while world.rings(BOB).is_empty() {
        world.run(5);
    }
    // What was on its way is lost, Ringing perhaps too.
    world.cut_signalling();
    world.run(2_000);
    world.act(BOB, |calls, now| calls.answer(call, now)).unwrap();
    world.run(2_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
    for node in [ALICE, BOB] {
        let leg = *world.nodes[node].media.keys().next().unwrap();
        let candidate = tandem_proto::wire::Candidate {
            address: vec![10, 9, 9, node as u8],
            port: 9,
            ..Default::default()
        };
        world.act(node, |calls, now| {
            calls.handle_network_changed(now);
            calls.handle_local_candidates(leg, &[candidate], now);
        });
        world.run(2_000);
    }
    world.cut_signalling();
    world.run(2_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
}

#[test]
fn no_address_is_shown_when_either_end_wants_relays_only() {
    for wanting in [ALICE, BOB] {
        let mut world = World::people(2, 5);
        world.set_relay_only(wanting);
        world.befriend();
        let options = CallOptions { relay_only: wanting == ALICE, ..CallOptions::default() };
        let call = world.place_with(ALICE, BOB, options);
        live_through_everything(&mut world, call);
        assert_eq!((shown(&world, ALICE), shown(&world, BOB)), (0, 0), "{wanting} wants relays only");
        assert!(!world.nodes.iter().flat_map(|n| n.media.values()).any(|media| media.remote_direct));
        world.act(ALICE, |calls, now| calls.hang_up(call, now));
        world.run(500);
        assert_eq!(world.open_links(), 0, "no line either");
    }
}

#[test]
fn no_address_is_shown_when_only_one_has_the_other_as_a_contact() {
    for friendly in [ALICE, BOB] {
        let mut world = World::people(2, 5);
        let other = world.nodes[1 - friendly].account;
        world.nodes[friendly].calls.set_contacts(vec![other]);
        let call = world.place(ALICE, BOB);
        live_through_everything(&mut world, call);
        assert_eq!((shown(&world, ALICE), shown(&world, BOB)), (0, 0), "a contact of {friendly} only");
    }
}

#[test]
fn contacts_show_addresses_and_the_caller_only_once_it_rings() {
    let mut world = World::people(2, 5);
    world.befriend();
    let call = world.place(ALICE, BOB);
    while world.rings(BOB).is_empty() {
        world.run(5);
    }
    world.run(DELAY_MS / 2);
    assert_eq!((shown(&world, ALICE), world.stage(ALICE)), (0, Some(Stage::Reaching)));
    world.run(DELAY_MS);
    assert!(shown(&world, ALICE) > 0 && world.stage(ALICE) == Some(Stage::Ringing));
    live_through_everything(&mut world, call);
    assert!(world.nodes.iter().flat_map(|n| n.media.values()).all(|media| media.remote_direct));
}

#[test]
fn a_stranger_hears_the_same_from_everybody() {
    let said = |world: &World| -> Vec<bool> {
        let relay_only = |frame: &tandem_proto::wire::SignalFrame| match &frame.body {
            Some(Body::Ringing(ringing)) => Some(ringing.relay_only),
            _ => None,
        };
        world.nodes[BOB].sent.iter().filter_map(relay_only).collect()
    };
    for relay_only in [false, true] {
        let mut world = World::people(2, 5);
        if relay_only {
            world.set_relay_only(BOB);
        }
        world.place(ALICE, BOB);
        world.run(1_000);
        assert_eq!(said(&world), [true]);
    }
    // Nor does a caller that wants relays only learn whether it is a contact.
    for contact in [false, true] {
        let mut world = World::people(2, 5);
        if contact {
            world.befriend();
        }
        world.place_with(ALICE, BOB, CallOptions { relay_only: true, ..CallOptions::default() });
        world.run(1_000);
        assert_eq!(said(&world), [true]);
    }
}

#[test]
fn declined_by_the_person() {
    let mut world = World::people(2, 5);
    let call = world.place(ALICE, BOB);
    world.run(1_000);
    world.act(BOB, |calls, now| calls.decline(call, EndReason::Declined, now)).unwrap();
    world.run(200);
    assert_eq!(
        (world.end_reason(ALICE), world.end_reason(BOB)),
        (Some(EndReason::Declined), Some(EndReason::Declined))
    );
    assert!(world.act(BOB, |calls, now| calls.answer(call, now)).is_err());
}

#[test]
fn a_second_caller_hears_busy_and_the_first_call_goes_on() {
    let mut world = World::people(3, 5);
    world.nodes[BOB].auto_answer = true;
    world.place(ALICE, BOB);
    world.run(1_000);
    world.place(2, BOB);
    world.run(1_000);
    assert_eq!(world.end_reason(2), Some(EndReason::Busy));
    assert!(world.talks(ALICE) && world.talks(BOB));
    let account = world.nodes[2].account;
    let third =
        world.act(BOB, |calls, now| calls.place(CallId([9; 16]), account, CallOptions::default(), now));
    assert_eq!(third, Err(PlaceError::Busy));
}

#[test]
fn nobody_answers_for_sixty_seconds() {
    let mut world = World::people(2, 5);
    world.place(ALICE, BOB);
    world.run(60_000);
    assert_eq!(world.end_reason(ALICE), None);
    world.run(1_000);
    assert_eq!(
        (world.end_reason(ALICE), world.end_reason(BOB)),
        (Some(EndReason::NoAnswer), Some(EndReason::NoAnswer))
    );
}

#[test]
fn the_caller_gives_up() {
    let mut world = World::people(2, 5);
    let call = world.place(ALICE, BOB);
    world.run(1_000);
    world.act(ALICE, |calls, now| calls.hang_up(call, now));
    world.run(200);
    assert_eq!(
        (world.end_reason(ALICE), world.end_reason(BOB)),
        (Some(EndReason::Cancelled), Some(EndReason::Cancelled))
    );
}

#[test]
fn nobody_is_there() {
    let mut world = World::people(2, 5);
    world.nodes[BOB].online = false;
    world.place(ALICE, BOB);
    world.run(100);
    assert_eq!(world.end_reason(ALICE), Some(EndReason::Unreachable), "a record without homes");

    let mut world = World::people(2, 5);
    let gone = world.record(world.nodes[BOB].account);
    world.nodes[BOB].online = false;
    let call = world.place(ALICE, BOB);
    world.act(ALICE, |calls, now| calls.handle_found(call, &gone, now));
    world.run(10_000);
    assert_eq!(world.end_reason(ALICE), Some(EndReason::Unreachable), "homes that cannot reach it");
}

#[test]
fn all_devices_ring_and_the_first_answer_wins() {
    let mut world = World::people(2, 5);
    let bob = world.nodes[BOB].account;
    world.add_devices(bob, 2, vec![1, 2, 3]);
    let call = world.place(ALICE, BOB);
    world.run(1_000);
    for device in [BOB, 2, 3] {
        assert_eq!(world.rings(device), [call]);
    }
    world.act(2, |calls, now| calls.answer(call, now)).unwrap();
    world.act(3, |calls, now| calls.answer(call, now)).unwrap();
    world.run(1_000);
    assert!(established(&world, ALICE) && established(&world, 2));
    assert_eq!(world.end_reason(BOB), Some(EndReason::AnsweredElsewhere));
    assert_eq!(world.end_reason(3), Some(EndReason::AnsweredElsewhere));
    for device in [BOB, 3] {
        let ended = world.ended(device).unwrap();
        assert_eq!((ended.by.as_deref(), &*ended.why), (Some("test"), "The call was answered on \"test\"."));
    }
    assert_eq!(world.ended(2), None);
    assert!(!world.nodes[3].commands.iter().any(starts), "no microphone opened");
    assert_eq!(world.nodes[ALICE].media.len(), 1);
}

#[test]
fn of_many_ringing_devices_four_connect_early_and_any_can_be_answered() {
    let mut world = World::people(2, 5);
    let bob = world.nodes[BOB].account;
    world.add_devices(bob, 5, vec![1, 2, 3]);
    let call = world.place(ALICE, BOB);
    world.run(1_000);
    let early = |world: &World| world.nodes[ALICE].media.values().filter(|m| m.remote.is_some()).count();
    assert_eq!((world.nodes[ALICE].media.len(), early(&world)), (6, 4));

    // One that connected early drops out: another may.
    let busy = |calls: &mut Calls, now| calls.decline(call, EndReason::Busy, now);
    let node_of = |leg: usize| [BOB, 2, 3, 4, 5, 6][leg];
    let connected = (0..6).map(node_of).find(|node| world.nodes[*node].media.values().any(|m| m.connected));
    world.act(connected.unwrap(), busy).unwrap();
    world.run(300);
    assert_eq!((world.nodes[ALICE].media.len(), early(&world)), (5, 4));

    let waits = |node: &usize| world.nodes[*node].media.values().any(|m| !m.connected);
    let last = (0..6).map(node_of).find(waits).expect("one that was left to wait");
    world.act(last, |calls, now| calls.answer(call, now)).unwrap();
    world.run(500);
    assert!(world.talks(ALICE) && world.talks(last));
}

#[test]
fn a_description_may_come_with_the_answer_instead() {
    let mut world = World::people(2, 5);
    world.tamper = Some(Box::new(move |from, mut frame| {
        match &mut frame.body {
            Some(Body::Ringing(ringing)) => ringing.media = None,
            Some(Body::Answer(answer)) => answer.media = Some(media(from as u8)),
            _ => {}
        }
        Some(frame)
    }));
    let call = world.place(ALICE, BOB);
    world.run(1_000);
    assert!(world.nodes[ALICE].media.values().all(|m| m.remote.is_none()));
    world.act(BOB, |calls, now| calls.answer(call, now)).unwrap();
    world.run(500);
    assert!(world.talks(ALICE) && world.talks(BOB));
}

#[test]
fn an_answer_with_another_description_than_it_rang_with_ends_the_call() {
    for (rang, answered) in [(true, Some(9)), (false, None)] {
        let mut world = World::people(2, 5);
        world.nodes[BOB].auto_answer = true;
        world.tamper = Some(Box::new(move |_, mut frame| {
            match &mut frame.body {
                Some(Body::Ringing(ringing)) if !rang => ringing.media = None,
                Some(Body::Answer(answer)) => answer.media = answered.map(media),
                _ => {}
            }
            Some(frame)
        }));
        world.place(ALICE, BOB);
        world.run(1_000);
        assert_eq!(world.end_reason(ALICE), Some(EndReason::Protocol));
        assert!(!world.nodes[ALICE].commands.iter().any(starts));
    }
}

#[test]
fn sound_that_overtakes_the_confirmation_counts_when_it_comes() {
    let mut world = World::people(2, 5);
    let call = world.place(ALICE, BOB);
    world.run(1_000);
    world.act(BOB, |calls, now| calls.answer(call, now)).unwrap();
    world.run(DELAY_MS);
    let leg = *world.nodes[BOB].media.keys().next().unwrap();
    let sound = Command::Report { call, event: CallEvent::Sound };
    world.act(BOB, |calls, now| calls.handle_first_media(leg, now));
    assert!(!world.nodes[BOB].commands.contains(&sound) && !world.nodes[BOB].commands.iter().any(starts));
    world.run(DELAY_MS + 5);
    assert!(established(&world, BOB) && world.nodes[BOB].commands.contains(&sound));
}

#[test]
fn one_device_declines_for_all() {
    let mut world = World::people(2, 5);
    let bob = world.nodes[BOB].account;
    world.add_devices(bob, 1, vec![1, 2, 3]);
    let call = world.place(ALICE, BOB);
    world.run(1_000);
    world.act(2, |calls, now| calls.decline(call, EndReason::Declined, now)).unwrap();
    world.run(200);
    assert_eq!(world.end_reason(ALICE), Some(EndReason::Declined));
    let ended = world.ended(BOB).unwrap();
    assert_eq!((ended.reason, &*ended.why), (EndReason::Declined, "The call was declined on \"test\"."));
}

/// Both call each other, `gap_ms` apart.
fn glare(first: usize, gap_ms: u64) {
    let second = 1 - first;
    let mut world = World::people(2, 5);
    let calls = [world.place(first, second), {
        world.run(gap_ms);
        world.place(second, first)
    }];
    world.run(2_000);
    let story = format!("{first} first, the other {gap_ms} ms later");
    assert!(established(&world, ALICE) && established(&world, BOB), "{story}");
    assert!(world.talks(ALICE) && world.talks(BOB), "{story}");
    let status = |node: usize| world.nodes[node].calls.status().expect("a call");
    assert_eq!(status(ALICE).call, status(BOB).call, "{story}");
    assert_eq!(world.nodes[ALICE].media.len() + world.nodes[BOB].media.len(), 2, "{story}");
    // A call that already rang when the other was placed is simply answered; else the lower key's offer wins.
    let rang = !world.rings(second).is_empty();
    let winner = if rang { first } else { ALICE };
    assert_eq!(status(winner).role, Role::Caller, "{story}");
    assert_eq!(status(winner).call, if winner == first { calls[0] } else { calls[1] }, "{story}");
    let merged = Command::Report {
        call: if winner == first { calls[1] } else { calls[0] },
        event: CallEvent::Merged { into: status(winner).call },
    };
    assert!(world.nodes[1 - winner].commands.contains(&merged), "{story}");
    world.run(20_000);
    assert!(world.talks(ALICE) && world.talks(BOB), "{story}: and it stays");
    assert!(world.nodes.iter().all(|node| {
        !node.commands.iter().any(|c| matches!(c, Command::Report { event: CallEvent::Ended(_), .. }))
    }));
}

#[test]
fn when_both_call_each_other_the_lower_keys_offer_wins() {
    for first in [ALICE, BOB] {
        for gap_ms in [0, 5, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 250, 300] {
            glare(first, gap_ms);
        }
    }
}

#[test]
fn glare_holds_when_one_end_is_slow() {
    for slow in [ALICE, BOB] {
        for (first, gap_ms) in [(ALICE, 0), (BOB, 0), (ALICE, 50), (BOB, 50), (ALICE, 150), (BOB, 150)] {
            let mut world = World::people(2, 5);
            world.nodes[slow].media_delay_ms = 200;
            world.place(first, 1 - first);
            world.run(gap_ms);
            world.place(1 - first, first);
            world.run(3_000);
            assert!(world.talks(ALICE) && world.talks(BOB), "{slow} slow, {first} first, {gap_ms} ms");
        }
    }
}

#[test]
fn a_revoked_device_is_not_called_and_cannot_call() {
    let mut world = World::people(2, 5);
    let bob = world.nodes[BOB].account;
    world.add_devices(bob, 1, vec![1, 2, 3]);
    let old = world.record(bob);
    let keep = [DeviceEntry { device: world.nodes[BOB].device, serial: 1 }];
    let lost = 2;
    world.set_devices(bob, &keep);
    let newest = world.set_of(bob);

    // Somebody hands out the old record; the highest epoch known decides.
    world.act(ALICE, |calls, now| calls.handle_device_set(&newest, now));
    let call = world.place(ALICE, BOB);
    world.act(ALICE, |calls, now| calls.handle_found(call, &old, now));
    world.run(1_000);
    assert_eq!(world.rings(BOB), [call]);
    assert_eq!(world.rings(lost), []);
    world.act(ALICE, |calls, now| calls.hang_up(call, now));
    world.run(500);

    // The lost device still has the old set and certificate.
    let call = world.place(lost, ALICE);
    world.run(2_000);
    assert_eq!(world.rings(ALICE), []);
    assert_eq!(world.end_reason(lost), Some(EndReason::NotTrusted));
    assert_ne!(Some(call), world.nodes[ALICE].calls.status().map(|status| status.call));
}

#[test]
fn a_call_ends_when_its_device_is_revoked_meanwhile() {
    let mut world = World::people(2, 5);
    world.nodes[BOB].auto_answer = true;
    world.place(ALICE, BOB);
    world.run(1_000);
    assert!(world.talks(ALICE));
    let bob = world.nodes[BOB].account;
    world.set_devices(bob, &[]);
    let newest = world.set_of(bob);
    world.act(ALICE, |calls, now| calls.handle_device_set(&newest, now));
    assert_eq!(world.end_reason(ALICE), Some(EndReason::NotTrusted));
}

#[test]
fn a_wrong_certificate_ends_the_connection() {
    for wrong in 0..3 {
        let mut world = World::people(3, 5);
        let (bob, carol) = (world.nodes[BOB].account, world.nodes[2].account);
        let own = world.set_of(bob).signed().clone();
        let device = world.nodes[BOB].device;
        let signed = match wrong {
            // Of another account, of another device, forged.
            0 => crate::call_world::certificate(world.secret_of(carol), device, 1).signed().clone(),
            1 => crate::call_world::certificate(world.secret_of(bob), world.nodes[2].device, 1)
                .signed()
                .clone(),
            _ => {
                let mut signed =
                    crate::call_world::certificate(world.secret_of(bob), device, 1).signed().clone();
                signed.signature[3] ^= 1;
                signed
            }
        };
        world.nodes[BOB].calls.set_identity(signed, own);
        world.place(ALICE, BOB);
        world.run(2_000);
        assert_eq!(world.end_reason(ALICE), Some(EndReason::NotTrusted), "{wrong}");
        assert_eq!(world.open_links(), 0, "{wrong}");
        // The offer went to the key that the device set names; what came back was not believed.
        let ringing = |command: &Command| {
            matches!(command, Command::Report { event: CallEvent::Ringing, .. } | Command::RemoteMedia { .. })
        };
        assert!(!world.nodes[ALICE].commands.iter().any(ringing), "{wrong}");
        let drawn = world.count_sent(ALICE, |body| matches!(body, Body::Draw(_) | Body::Candidates(_)));
        assert_eq!(drawn, 0, "nothing more was said to it");
        assert_eq!(world.nodes[BOB].calls.status().map(|status| status.call), None);
    }
}

#[test]
fn no_version_in_common_is_said_clearly() {
    let mut world = World::people(2, 5);
    world.tamper = Some(Box::new(|from, mut frame| {
        if let Some(Body::Hello(hello)) = frame.body.as_mut().filter(|_| from == BOB) {
            (hello.version_min, hello.version_max) = (7, 9);
        }
        Some(frame)
    }));
    world.place(ALICE, BOB);
    world.run(2_000);
    let ended = world.ended(ALICE).unwrap();
    assert_eq!(ended.reason, EndReason::Version);
    assert!(ended.why.contains("7 to 9"), "{}", ended.why);
}

#[test]
fn a_newer_version_that_still_speaks_ours_is_fine() {
    let mut world = World::people(2, 5);
    world.nodes[BOB].auto_answer = true;
    world.tamper = Some(Box::new(|from, mut frame| {
        if let Some(Body::Hello(hello)) = frame.body.as_mut().filter(|_| from == BOB) {
            hello.version_max = 3;
        }
        Some(frame)
    }));
    world.place(ALICE, BOB);
    world.run(1_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
}

#[test]
fn strangers_can_be_refused_and_contacts_still_ring() {
    let mut world = World::people(2, 5);
    world.nodes[BOB].calls.set_strangers(Strangers::Refuse);
    world.place(ALICE, BOB);
    world.run(1_000);
    assert_eq!(world.end_reason(ALICE), Some(EndReason::Refused));
    assert_eq!(world.rings(BOB), []);
    let call = {
        world.befriend();
        world.place(ALICE, BOB)
    };
    world.run(1_000);
    assert_eq!(world.rings(BOB), [call]);
}

#[test]
fn nobody_calls_themselves() {
    let mut world = World::people(1, 5);
    let own = world.nodes[ALICE].account;
    let placed =
        world.act(ALICE, |calls, now| calls.place(CallId([1; 16]), own, CallOptions::default(), now));
    assert_eq!(placed, Err(PlaceError::Own));
}

#[test]
fn a_media_session_that_cannot_be_made_ends_the_call_on_both_ends() {
    let mut world = World::people(2, 5);
    world.nodes[ALICE].media_delay_ms = 100_000;
    world.place(ALICE, BOB);
    world.run(500);
    let leg = *world.nodes[ALICE].media.keys().next().unwrap();
    world.act(ALICE, |calls, now| calls.handle_media_failed(leg, "no UDP socket", now));
    world.run(200);
    assert_eq!(world.end_reason(ALICE), Some(EndReason::Failed));
    assert_eq!(world.open_links(), 0);
}

#[test]
fn a_newer_device_set_in_a_hello_is_remembered() {
    let mut world = World::people(2, 5);
    world.place(ALICE, BOB);
    world.run(1_000);
    let alice = world.nodes[ALICE].account;
    let remembered = world.nodes[BOB].commands.iter().any(|command| {
        matches!(command, Command::RememberDeviceSet { account, device_set, .. }
            if *account == alice && DeviceSet::verify(device_set, alice, START.unix_ms).is_ok())
    });
    assert!(remembered);
}
