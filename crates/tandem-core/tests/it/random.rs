//! Any events in any order: no panic, nothing grows, no timer that spins, no word broken.

use proptest::prelude::*;
use tandem_core::homes::{Cause, Command, Distrust, HOMES, Homes};
use tandem_core::lookup::{self, Answer, LookUp};
use tandem_core::peer::{KnownPeer, PeerRef};
use tandem_core::service::{ClientRef, Config, Service};
use tandem_core::time::Now;
use tandem_proto::grant::RelaySecret;
use tandem_proto::ids::{DeviceKey, ServiceKey};
use tandem_proto::record::Seen;
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{
    Busy, GrantRequest, Heartbeat, HomeFrame, HomeHello, LookUp as LookUpRequest, Publish, ReachRecord,
    Reserve, Signed, Supernodes, SupernodesRequest,
};

#[derive(Debug, Clone)]
enum Input {
    Known { peer: u32, network: u32, referrer: Option<u32> },
    Opened(u32),
    Reserved(u32, u32),
    Answered(u32),
    Closed(u32, bool),
    Busy(u32, u32),
    Drain(u32, u32),
    Distrust(u32, u8),
    InCall(bool),
    NetworkChanged,
    Published(u32),
    PublishFailed(u32, u32),
    Wait(u64),
    Due,
    Forgotten(bool),
    AskRefused(u32),
}

fn input() -> impl Strategy<Value = Input> {
    let peer = || 0_u32..40;
    prop_oneof![
        4 => (peer(), 0_u32..12, proptest::option::of(0_u32..4))
            .prop_map(|(peer, network, referrer)| Input::Known { peer, network, referrer }),
        6 => peer().prop_map(Input::Opened),
        6 => (peer(), any::<u32>()).prop_map(|(peer, ms)| Input::Reserved(peer, ms)),
        3 => peer().prop_map(Input::Answered),
        3 => (peer(), any::<bool>()).prop_map(|(peer, odd)| Input::Closed(peer, odd)),
        1 => (peer(), any::<u32>()).prop_map(|(peer, ms)| Input::Busy(peer, ms)),
        1 => (peer(), any::<u32>()).prop_map(|(peer, ms)| Input::Drain(peer, ms)),
        1 => (peer(), 0_u8..3).prop_map(|(peer, reason)| Input::Distrust(peer, reason)),
        1 => any::<bool>().prop_map(Input::InCall),
        1 => Just(Input::NetworkChanged),
        2 => peer().prop_map(Input::Published),
        1 => (peer(), any::<u32>()).prop_map(|(peer, ms)| Input::PublishFailed(peer, ms)),
        3 => (0_u64..100_000).prop_map(Input::Wait),
        6 => Just(Input::Due),
        1 => any::<bool>().prop_map(Input::Forgotten),
        1 => any::<u32>().prop_map(Input::AskRefused),
    ]
}

fn apply(homes: &mut Homes, input: &Input, now: Now) {
    match *input {
        Input::Known { peer, network, referrer } => {
            let referrer = referrer.map(PeerRef);
            let known = KnownPeer {
                peer: PeerRef(peer),
                network,
                referrer,
                port_443: peer % 7 == 0,
                release: (peer % 3) as u16,
            };
            homes.handle_known(&[known], now);
        }
        Input::Opened(peer) => homes.handle_opened(PeerRef(peer), Some(peer * 10), now),
        Input::Reserved(peer, ms) => homes.handle_reserved(PeerRef(peer), ms, now),
        Input::Answered(peer) => homes.handle_heartbeat_answer(PeerRef(peer), now),
        Input::Closed(peer, odd) => {
            homes.handle_closed(PeerRef(peer), if odd { Cause::Incompatible } else { Cause::Lost }, now);
        }
        Input::Busy(peer, ms) => homes.handle_busy(PeerRef(peer), ms, now),
        Input::Drain(peer, ms) => homes.handle_drain(PeerRef(peer), ms, now),
        Input::Distrust(peer, reason) => {
            let reason = [Distrust::Lied, Distrust::Behind, Distrust::Omitted][usize::from(reason)];
            homes.handle_distrust(PeerRef(peer), reason, now);
        }
        Input::InCall(in_call) => homes.set_in_call(in_call, now),
        Input::NetworkChanged => homes.handle_network_changed(now),
        Input::AskRefused(ms) => homes.handle_ask_refused(ms, now),
        Input::Published(peer) => homes.handle_published(PeerRef(peer), now),
        Input::PublishFailed(peer, ms) => homes.handle_publish_failed(PeerRef(peer), ms, now),
        Input::Wait(_) | Input::Due | Input::Forgotten(_) => homes.handle_timeout(now),
    }
}

/// Some frame, mostly a nonsensical one.
fn frame(kind: u8, byte: u8) -> HomeFrame {
    let bytes = |len: usize| vec![byte; if byte.is_multiple_of(3) { len } else { usize::from(byte) }];
    let body = match kind {
        5 => Body::Hello(HomeHello {
            version_min: 1,
            version_max: u32::from(byte),
            time_s: u64::MAX >> (byte % 4),
            ..HomeHello::default()
        }),
        6 => Body::Reserve(Reserve {
            in_call: byte.is_multiple_of(2),
            resume_ticket: bytes(8),
            homeless: byte.is_multiple_of(3),
        }),
        7 => Body::LookUp(LookUpRequest { account: bytes(32) }),
        8 => Body::GrantRequest(GrantRequest { call_tag: bytes(16) }),
        9 => Body::SupernodesRequest(SupernodesRequest {
            roles: u32::from(byte),
            near: bytes(32),
            limit: u32::MAX,
            named: vec![bytes(32); usize::from(byte % 20)],
        }),
        10 => Body::Publish(Publish { record: Some(garbled(byte)) }),
        11 => Body::Supernodes(Supernodes {
            descriptors: vec![Signed { payload: bytes(90), signature: bytes(64) }; 40],
        }),
        12 => Body::Busy(Busy { retry_after_ms: u32::MAX, referrals: Vec::new() }),
        _ => Body::Heartbeat(Heartbeat { in_call: byte.is_multiple_of(2) }),
    };
    HomeFrame { id: u64::from(byte % 20), body: (byte != 255).then_some(body) }
}

fn garbled(byte: u8) -> ReachRecord {
    let signed = Signed { payload: vec![10, 32, byte, byte], signature: vec![byte; 64] };
    ReachRecord { device_set: Some(signed.clone()), device_homes: vec![signed; usize::from(byte)] }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn homes_survive_anything(seed: u64, inputs in proptest::collection::vec(input(), 0..400)) {
        let mut now = Now { mono_ms: 0, unix_ms: 0 };
        let mut homes = Homes::new(seed, now);
        let mut drained = true;
        let mut waiting = false;
        let mut contacts: Vec<(u64, PeerRef)> = Vec::new();
        for input in &inputs {
            match input {
                Input::Wait(ms) => now = now.plus_ms(*ms),
                Input::Due => {
                    let due_ms = homes.poll_timeout().unwrap_or(0);
                    now = now.plus_ms(due_ms.saturating_sub(now.mono_ms).min(3_600_000));
                }
                Input::Forgotten(drain) => drained = *drain,
                _ => {}
            }
            apply(&mut homes, input, now);
            let mut commands = 0;
            if !drained {
                // What waits undrained happens later than it was decided: start counting anew.
                contacts.clear();
            }
            while drained && let Some(command) = homes.poll_command() {
                commands += 1;
                if let Command::Connect(peer) = command
                    && !waiting
                {
                    contacts.push((now.mono_ms, peer));
                }
            }
            waiting = !drained;
            prop_assert!(commands <= 200);
            prop_assert!(homes.links().count() <= 8);
            prop_assert!(homes.reserved().count() <= HOMES);
            prop_assert!(homes.remembered().count() <= 32);
            if drained && matches!(input, Input::Due) {
                prop_assert!(homes.poll_timeout().is_none_or(|ms| ms > now.mono_ms), "spins after {input:?}");
            }
        }
        for (at_ms, _) in &contacts {
            let mut minute: Vec<PeerRef> = contacts
                .iter()
                .filter(|(ms, _)| (*at_ms..at_ms + 60_000).contains(ms))
                .map(|(_, peer)| *peer)
                .collect();
            prop_assert!(minute.len() <= 25);
            minute.sort_unstable();
            minute.dedup();
            prop_assert!(minute.len() <= 12);
        }
    }

    #[test]
    fn a_supernode_survives_anything(
        seed: u64,
        steps in proptest::collection::vec((0_u64..6, 0_u8..14, any::<u8>(), 0_u64..2_000), 0..300),
    ) {
        let mut now = Now { mono_ms: 0, unix_ms: 1_800_000_000_000 };
        let mut config = Config::new(ServiceKey([1; 32]), "test".into());
        config.relay_secret = Some(RelaySecret::new([2; 32]));
        config.reservations_max = 3;
        let mut service = Service::new(config, seed, now);
        for (client, kind, byte, wait_ms) in steps {
            now = now.plus_ms(wait_ms);
            service.handle_timeout(now);
            let client = ClientRef(client);
            match kind {
                0 => service.handle_opened(client, [byte % 4; 32], None, byte % 5 == 0, now),
                1 => service.handle_closed(client, now),
                2 => service.handle_stored(u64::from(byte), u32::from(byte), now),
                3 => service.handle_found(u64::from(byte % 8), Some(&[byte; 40]), byte % 2 == 0, now),
                4 => service.handle_connect_failed(ServiceKey([byte; 32]), now),
                _ => service.handle_frame(client, frame(kind, byte), now),
            }
            let commands = std::iter::from_fn(|| service.poll_command()).count();
            prop_assert!(commands <= 100);
            prop_assert!(service.figures().clients <= 6);
            prop_assert!(service.figures().reserved <= 4);
            prop_assert!(service.poll_timeout().is_none_or(|ms| ms > now.mono_ms));
        }
    }

    #[test]
    fn a_look_up_always_ends_with_one_outcome(
        answers in proptest::collection::vec((0_u32..4, 0_u8..4, 0_u64..3, 0_u64..3, any::<bool>(), 0_u64..500), 0..20),
        seen in proptest::option::of((0_u64..3, 0_u64..3)),
    ) {
        let mut now = Now { mono_ms: 0, unix_ms: 1_000_000 };
        let summary = |epoch, sequence| Seen { epoch, sequences: vec![(DeviceKey([1; 32]), sequence)] };
        let seen = seen.map(|(epoch, sequence)| summary(epoch, sequence));
        let mut look_up = LookUp::new(&[PeerRef(0), PeerRef(1), PeerRef(2)], seen, now);
        let mut commands = Vec::new();
        for (home, kind, epoch, sequence, done, wait_ms) in answers {
            now = now.plus_ms(wait_ms);
            look_up.handle_timeout(now);
            let answer = match kind {
                0 => Answer::Valid(summary(epoch, sequence)),
                1 => Answer::Invalid,
                2 => Answer::Empty,
                _ => Answer::Failed,
            };
            look_up.handle_answer(PeerRef(home), answer, done, now);
            commands.extend(std::iter::from_fn(|| look_up.poll_command()));
        }
        while let Some(due_ms) = look_up.poll_timeout() {
            now = now.plus_ms(due_ms.saturating_sub(now.mono_ms).max(1));
            look_up.handle_timeout(now);
        }
        commands.extend(std::iter::from_fn(|| look_up.poll_command()));
        let outcomes = commands.iter().filter(|command| matches!(command,
            lookup::Command::Outcome(outcome) if !matches!(outcome, lookup::Outcome::Updated { .. })));
        prop_assert_eq!(outcomes.count(), 1);
        prop_assert!(look_up.is_finished());
    }
}
