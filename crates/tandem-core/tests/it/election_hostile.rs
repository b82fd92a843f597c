//! Those who want others to serve, to stop or to believe them: malicious invitations, lying capacities, supernodes that
//! answer everything with garbage.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use tandem_core::election::{Candidacy, Command, Config, Invitation, Sighted, State};
use tandem_core::peer::PeerRef;
use tandem_core::service::{self, ClientRef};
use tandem_core::time::Now;
use tandem_proto::identity::ServiceSecret;
use tandem_proto::names::VERSIONS;
use tandem_proto::signed::Roles;
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{self, HomeFrame, HomeHello, Signed};

use crate::service::{Bench, descriptor};
use crate::world::UNIX_MS;

const BOTH: Roles = Roles(3);
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const HONEST: u32 = 12;
const HOSTILE: u32 = 100;
const HOSTILE_NETWORK: u32 = 66;

fn is_hostile(peer: PeerRef) -> bool {
    peer.0 >= 1_000
}

/// Twelve honest ones in networks of their own, and a hundred hostile ones in one, who come first.
fn sight(honest_percent: u32, hostile_percent: u32) -> Vec<Sighted> {
    let hostile = (1_000..1_000 + HOSTILE).map(|peer| Sighted {
        peer: PeerRef(peer),
        network: HOSTILE_NETWORK,
        roles: BOTH,
        load_percent: hostile_percent,
    });
    let honest = (0..HONEST).map(|peer| Sighted {
        peer: PeerRef(peer),
        network: peer,
        roles: BOTH,
        load_percent: honest_percent,
    });
    hostile.chain(honest).collect()
}

/// One node among them. Whoever it asks for a load answers with this.
struct Node {
    candidacy: Candidacy,
    now: Now,
    honest_percent: u32,
    hostile_percent: u32,
    questions: usize,
}

impl Node {
    fn new(seed: u64, honest_percent: u32, hostile_percent: u32) -> Self {
        let now = Now { mono_ms: 1_000, unix_ms: UNIX_MS };
        let candidacy = Candidacy::new(Config::default(), seed, now);
        let mut node = Self { candidacy, now, honest_percent, hostile_percent, questions: 0 };
        node.candidacy.handle_roles(BOTH, BOTH, now);
        node
    }

    fn drain(&mut self) {
        while let Some(command) = self.candidacy.poll_command() {
            if let Command::AskLoad(peer) = command {
                self.questions += 1;
                let load = if is_hostile(peer) { self.hostile_percent } else { self.honest_percent };
                self.candidacy.handle_load_answer(peer, Some(load), self.now);
            }
        }
    }

    fn run_for(&mut self, ms: u64) {
        let end_ms = self.now.mono_ms + ms;
        self.drain();
        while let Some(to_ms) = self.candidacy.poll_timeout().filter(|to_ms| *to_ms <= end_ms) {
            self.now = self.now.plus_ms(to_ms.saturating_sub(self.now.mono_ms));
            self.candidacy.handle_timeout(self.now);
            self.drain();
        }
        self.now = self.now.plus_ms(end_ms - self.now.mono_ms);
    }
}

#[test]
fn a_network_that_invites_all_day_and_swears_to_be_full_recruits_nobody() {
    for seed in 0..20 {
        let mut node = Node::new(seed, 20, 100);
        node.candidacy.handle_sight(&sight(20, 100), node.now);
        node.run_for(MINUTE_MS);
        assert_eq!(node.candidacy.state(), State::Reserve);
        for minute in 0..24 * 60u32 {
            for nth in 0..3 {
                let invitation = Invitation {
                    from: PeerRef(1_000 + (minute * 3 + nth) % HOSTILE),
                    load_percent: 100,
                    not_after_unix_ms: node.now.unix_ms + HOUR_MS,
                };
                node.candidacy.handle_invitation(&invitation, node.now);
                node.drain();
            }
            node.run_for(MINUTE_MS);
            assert_eq!(node.candidacy.state(), State::Reserve, "seed {seed}, minute {minute}");
        }
        // One every ten minutes is looked into, of four thousand.
        assert!(node.questions <= 3 * (3 + 24 * 6), "{} questions", node.questions);
        assert!(node.candidacy.figures().invitations_refused > 0, "some were looked into");
    }
}

#[test]
fn a_network_that_swears_to_be_empty_makes_nobody_leave() {
    for (hostile_percent, honest_percent, leaves) in [(0, 80, false), (100, 20, true)] {
        let mut left = 0;
        for seed in 0..8 {
            let mut node = Node::new(seed, honest_percent, hostile_percent);
            node.candidacy.handle_sight(&[], node.now);
            node.run_for(2 * MINUTE_MS);
            assert_eq!(node.candidacy.state(), State::Supernode, "it began when there were too few");
            node.candidacy.handle_sight(&sight(honest_percent, hostile_percent), node.now);
            node.candidacy.handle_load(0, node.now);
            node.run_for(24 * HOUR_MS);
            left += u32::from(node.candidacy.state() == State::Draining);
        }
        assert_eq!(left, if leaves { 8 } else { 0 }, "{hostile_percent} % said, {honest_percent} % true");
    }
}

// ---- a supernode that answers everything with garbage -------------------------------------------------------------

fn signed() -> impl Strategy<Value = Signed> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    prop_oneof![
        (bytes(200), bytes(70)).prop_map(|(payload, signature)| Signed { payload, signature }),
        // A true one, and one whose signature is another's.
        (1u8..40).prop_map(|n| descriptor(&ServiceSecret::from_seed(&[n; 32]), 1).signed().clone()),
        (1u8..40).prop_map(|n| Signed {
            payload: descriptor(&ServiceSecret::from_seed(&[n; 32]), 2).signed().payload.clone(),
            signature: vec![n; 64],
        }),
    ]
}

fn any_answer() -> impl Strategy<Value = Option<Body>> {
    let many = || prop::collection::vec(signed(), 0..40);
    prop_oneof![
        Just(None),
        many().prop_map(|descriptors| Some(Body::Supernodes(wire::Supernodes { descriptors }))),
        (any::<u32>(), many()).prop_map(|(retry_after_ms, referrals)| {
            Some(Body::Busy(wire::Busy { retry_after_ms, referrals }))
        }),
        (any::<u32>(), many())
            .prop_map(|(within_ms, referrals)| Some(Body::Drain(wire::Drain { within_ms, referrals }))),
        (any::<u32>(), "\\PC{0,300}")
            .prop_map(|(code, detail)| Some(Body::Failure(wire::Failure { code, detail }))),
        any::<bool>().prop_map(|in_call| Some(Body::Heartbeat(wire::Heartbeat { in_call }))),
        any::<bool>()
            .prop_map(|accepted| { Some(Body::InvitationAnswer(wire::InvitationAnswer { accepted })) }),
        any::<u32>().prop_map(|load_percent| Some(Body::Load(wire::Load { load_percent }))),
        Just(Some(Body::Hello(HomeHello::default()))),
        Just(Some(Body::Reserve(wire::Reserve::default()))),
        Just(Some(Body::GrantRequest(wire::GrantRequest { call_tag: vec![1; 16] }))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// On a stream that this supernode opened: it believes what is signed, answers nothing, and goes on serving.
    #[test]
    fn a_neighbour_that_answers_with_garbage_is_believed_nothing(
        answers in prop::collection::vec((any_answer(), 0u64..6, 0u64..40_000), 1..40),
    ) {
        let mut bench = Bench::new(|_| {});
        let client = ClientRef(500);
        let neighbour = ServiceSecret::from_seed(&[8; 32]);
        let from = IpAddr::V4(Ipv4Addr::new(60, 0, 0, 1));
        bench.service.handle_opened(client, neighbour.public().0, Some(from), true, bench.now);
        let hello = HomeHello {
            version_min: VERSIONS.min,
            version_max: VERSIONS.max,
            time_s: UNIX_MS / 1_000,
            ..HomeHello::default()
        };
        let hello = HomeFrame { id: 0, body: Some(Body::Hello(hello)) };
        bench.service.handle_frame(client, hello, bench.now);
        for (body, id, wait_ms) in answers {
            bench.service.handle_frame(client, HomeFrame { id, body }, bench.now);
            for command in bench.take() {
                let serves = matches!(
                    command,
                    service::Command::Check(_)
                        | service::Command::Announced { .. }
                        | service::Command::Invited { .. }
                        | service::Command::InvitationAnswered { .. }
                        | service::Command::Drained
                        | service::Command::DhtPut { .. }
                        | service::Command::Expel(_)
                );
                prop_assert!(!serves, "{command:?}");
            }
            bench.wait(wait_ms);
        }
        // At most the forty whose descriptors were true.
        prop_assert!(bench.service.figures().supernodes_known <= 40);
        prop_assert_eq!(bench.service.roles(), BOTH);
        bench.reserved(1);
    }
}
