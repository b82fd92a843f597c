//! The end of a call, when its streams are dead and nobody knows yet.

use tandem_core::call::*;
use tandem_proto::wire::signal_frame::Body;

use crate::call_world::World;

const ALICE: usize = 0;
const BOB: usize = 1;

/// Two people talking.
fn talking(contacts: bool) -> World {
    let mut world = World::people(2, 8);
    if contacts {
        world.befriend();
    }
    world.nodes[BOB].auto_answer = true;
    world.place(ALICE, BOB);
    world.run(2_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
    world.nodes[BOB].auto_answer = false;
    world
}

fn hang_up(world: &mut World, who: usize) -> CallId {
    let call = world.nodes[who].calls.status().expect("a call").call;
    world.act(who, |calls, now| calls.hang_up(call, now));
    call
}

/// Nothing is left of any call: no stream but a line, nothing to wake for but its end.
fn at_rest(world: &World) {
    assert!(world.open_links() <= 1);
    for node in &world.nodes {
        assert!(!node.calls.awaits_answer());
        assert!(node.calls.status().is_none());
    }
}

fn last_words(world: &World) -> usize {
    let ends = |body: &Body| matches!(body, Body::HangUp(_) | Body::Decline(_));
    (0..world.nodes.len()).map(|node| world.count_sent(node, ends)).sum()
}

fn leg(world: &World, node: usize) -> LegId {
    world.nodes[node].calls.status().and_then(|status| status.leg).expect("an established call")
}

#[test]
fn a_hang_up_on_streams_that_have_died_unnoticed_is_said_again() {
    for contacts in [true, false] {
        for (deaf, who) in [(ALICE, ALICE), (ALICE, BOB), (BOB, ALICE), (BOB, BOB)] {
            let mut world = talking(contacts);
            world.deafen(deaf);
            world.run(1_000);
            hang_up(&mut world, who);
            world.run(2_000);
            assert_eq!(world.end_reason(1 - who), Some(EndReason::HungUp), "{contacts} {deaf} {who}");
            world.run(8_000);
            at_rest(&world);
            assert!(last_words(&world) <= 6, "{}", last_words(&world));
        }
    }
}

#[test]
fn a_hang_up_without_any_stream_is_said_on_a_new_one_at_once() {
    for who in [ALICE, BOB] {
        let mut world = talking(true);
        world.deafen(ALICE);
        // Both have just noticed, and the new stream is not there yet.
        world.run(6_005);
        hang_up(&mut world, who);
        world.run(500);
        assert_eq!(world.end_reason(1 - who), Some(EndReason::HungUp), "{who}");
        world.run(8_000);
        at_rest(&world);
    }
}

#[test]
fn a_device_without_network_hears_of_the_end_when_it_is_back() {
    for away in [ALICE, BOB] {
        for ms in [4_000, 25_000, 40_000] {
            let mut world = talking(true);
            world.unplug(away);
            world.run(100);
            hang_up(&mut world, 1 - away);
            world.run(ms);
            assert_eq!(world.end_reason(away), None);
            world.plug(away);
            world.run(2_000);
            assert_eq!(world.end_reason(away), Some(EndReason::HungUp), "{away} after {ms} ms");
            world.run(100_000);
            at_rest(&world);
            assert_eq!(world.rings(BOB).len(), 1, "an offer that comes late does not ring");
        }
    }
}

#[test]
fn whoever_hangs_up_without_network_is_heard_when_it_is_back() {
    let mut world = talking(true);
    world.unplug(ALICE);
    world.run(500);
    hang_up(&mut world, ALICE);
    world.run(10_000);
    assert_eq!(world.end_reason(BOB), None);
    world.plug(ALICE);
    world.run(1_000);
    assert_eq!(world.end_reason(BOB), Some(EndReason::HungUp));
}

#[test]
fn answered_elsewhere_reaches_a_device_whose_stream_has_died() {
    let mut world = World::people(2, 8);
    world.befriend();
    let account = world.nodes[BOB].account;
    world.add_devices(account, 1, vec![3, 4, 5]);
    world.befriend();
    let call = world.place(ALICE, BOB);
    world.run(1_000);
    assert_eq!(world.rings(2), [call]);
    world.deafen(2);
    world.act(BOB, |calls, now| calls.answer(call, now)).unwrap();
    world.run(2_000);
    let ended = world.ended(2).expect("it rings no longer");
    assert_eq!((ended.reason, ended.by.as_deref()), (EndReason::AnsweredElsewhere, Some("test")));
    assert!(world.talks(ALICE) && world.talks(BOB));
}

#[test]
fn a_decline_on_a_dead_stream_is_said_again() {
    let mut world = World::people(2, 8);
    let call = world.place(ALICE, BOB);
    world.run(1_000);
    world.deafen(BOB);
    world.act(BOB, |calls, now| calls.decline(call, EndReason::Declined, now)).unwrap();
    world.run(3_000);
    assert_eq!(world.end_reason(ALICE), Some(EndReason::Declined));
    world.run(8_000);
    at_rest(&world);
}

#[test]
fn a_call_cancelled_at_any_moment_rings_no_longer() {
    for contacts in [true, false] {
        for ms in (0..400).step_by(5) {
            let mut world = World::people(2, 8);
            if contacts {
                world.befriend();
            }
            world.place(ALICE, BOB);
            world.run(ms);
            hang_up(&mut world, ALICE);
            world.run(300);
            assert_eq!(world.stage(BOB), None, "cancelled after {ms} ms");
        }
    }
}

#[test]
fn a_last_word_that_comes_late_does_not_end_the_next_call() {
    for from in [ALICE, BOB] {
        let mut world = talking(true);
        world.deafen(ALICE);
        hang_up(&mut world, ALICE);
        world.run(if from == ALICE { 0 } else { 1_900 });
        world.nodes.iter_mut().for_each(|node| node.auto_answer = true);
        let next = world.place(from, 1 - from);
        for _ in 0..1_000 {
            world.run(10);
            if let Some(status) = world.nodes[from].calls.status() {
                assert_eq!(status.call, next);
            }
        }
        assert!(world.talks(ALICE) && world.talks(BOB), "{from}");
        assert!(last_words(&world) <= 10, "nobody answers an answer: {}", last_words(&world));
    }
}

#[test]
fn a_last_word_about_another_call_is_answered_once_and_ends_nothing() {
    let mut world = talking(true);
    let signal = world.newest_signal(BOB);
    let before = last_words(&world);
    for _ in 0..50 {
        let other = tandem_proto::wire::HangUp { reason: 1, call_id: vec![9; 16], ..Default::default() };
        let frame = tandem_proto::wire::SignalFrame { body: Some(Body::HangUp(other)) };
        world.act(BOB, |calls, now| calls.handle_frame(signal, frame, now));
    }
    world.run(1_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
    assert!(last_words(&world) - before <= 2);
}

#[test]
fn somebody_who_never_answers_costs_little() {
    let mut world = talking(true);
    world.tamper = Some(Box::new(|node, frame| {
        let ends = matches!(frame.body, Some(Body::HangUp(_)));
        (node == ALICE || !ends).then_some(frame)
    }));
    let opened = |world: &World| {
        let commands = world.nodes[ALICE].commands.iter();
        commands.filter(|command| matches!(command, Command::OpenSignal { .. })).count()
    };
    let before = opened(&world);
    hang_up(&mut world, ALICE);
    world.run(130_000);
    assert!(opened(&world) - before <= 5, "{}", opened(&world) - before);
    world.run(600_000);
    assert_eq!(world.nodes[ALICE].calls.poll_timeout(), None);
    assert_eq!(world.open_links(), 0);
}

#[test]
fn what_the_other_ends_media_says_ends_the_call_a_moment_later() {
    for who in [ALICE, BOB] {
        let mut world = talking(true);
        let leg = leg(&world, who);
        world.act(who, |calls, now| calls.handle_peer_ended(leg, now));
        world.run(900);
        assert_eq!(world.end_reason(who), None, "the hang-up may still come, with its reason");
        world.act(who, |calls, now| calls.handle_peer_ended(leg, now));
        world.run(150);
        let ended = world.ended(who).expect("an end");
        assert_eq!((ended.reason, ended.why.as_str()), (EndReason::HungUp, "They hung up."));
        let kept = |command: &Command| matches!(command, Command::SetSignalIdle { idle: true, .. });
        assert!(!world.nodes[who].commands.iter().any(kept), "no line is kept on streams that may be dead");
    }
}

#[test]
fn the_reason_that_comes_by_signalling_goes_before() {
    let mut world = talking(true);
    let (leg, call) = (leg(&world, BOB), world.nodes[BOB].calls.status().unwrap().call);
    let signal = world.newest_signal(BOB);
    world.act(BOB, |calls, now| calls.handle_peer_ended(leg, now));
    world.run(500);
    let failed = EndReason::Failed.number();
    let said = tandem_proto::wire::HangUp { reason: failed, call_id: call.0.to_vec(), ..Default::default() };
    let frame = tandem_proto::wire::SignalFrame { body: Some(Body::HangUp(said)) };
    world.act(BOB, |calls, now| calls.handle_frame(signal, frame, now));
    assert_eq!(world.end_reason(BOB), Some(EndReason::Failed));
}

#[test]
fn a_phone_rings_no_longer_when_the_callers_media_has_ended() {
    let mut world = World::people(2, 8);
    world.befriend();
    world.place(ALICE, BOB);
    world.run(1_000);
    let leg = *world.nodes[BOB].media.keys().next().unwrap();
    world.act(BOB, |calls, now| calls.handle_peer_ended(leg, now));
    world.run(2_900);
    assert_eq!(world.stage(BOB), Some(Stage::Ringing));
    world.run(200);
    assert_eq!(world.end_reason(BOB), Some(EndReason::Cancelled));
}
