//! Who may serve, and who does: each rule of DESIGN "Choosing supernodes" by itself, under forced time.

use tandem_core::election::{
    Candidacy, Caps, Carrier, Checker, Command, Config, Consent, Eligibility, EligibilityCommand, Family,
    Headroom, Hours, Invitation, Leave, Missing, Requirements, Role, Sighted, Situation, State, Way,
};
use tandem_core::peer::PeerRef;
use tandem_core::time::Now;
use tandem_proto::signed::Roles;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const TERMS: u32 = 3;
const UDP4: Way = Way { family: Family::V4, carrier: Carrier::Udp, mapped: false };
const BOTH: Roles = Roles(3);

fn start() -> Now {
    // Midnight UTC, so that hours are easy to read.
    Now { mono_ms: 1_000, unix_ms: 1_800_057_600_000 }
}

// ---- eligibility --------------------------------------------------------------------------------------------------

/// A node and the others that check it, of which some cannot reach it.
struct Checked {
    eligibility: Eligibility,
    now: Now,
    /// Peers that cannot reach it, or say so.
    in_vain: fn(PeerRef) -> bool,
    asked: Vec<(u64, PeerRef, Way)>,
}

impl Checked {
    fn new(checkers: u32, networks: u32) -> Self {
        let mut eligibility = Eligibility::new(Requirements::new(TERMS), 7, start());
        eligibility.handle_headroom(plenty(), start());
        eligibility.handle_listening(&[UDP4], start());
        let checkers: Vec<Checker> =
            (0..checkers).map(|peer| Checker { peer: PeerRef(peer), network: peer % networks }).collect();
        eligibility.handle_checkers(&checkers, start());
        Self { eligibility, now: start(), in_vain: |_| false, asked: Vec::new() }
    }

    fn consenting(checkers: u32, networks: u32) -> Self {
        let mut checked = Self::new(checkers, networks);
        checked.eligibility.handle_consent(Some(consent()), start());
        checked
    }

    fn run_for(&mut self, ms: u64) {
        let end_ms = self.now.mono_ms + ms;
        loop {
            while let Some(EligibilityCommand::AskCheck { of, way }) = self.eligibility.poll_command() {
                self.asked.push((self.now.mono_ms, of, way));
                self.eligibility.handle_checked(of, way, !(self.in_vain)(of), self.now);
            }
            let next_ms = self.eligibility.poll_timeout().filter(|next_ms| *next_ms < end_ms);
            let to_ms = next_ms.unwrap_or(end_ms);
            assert!(next_ms.is_none() || to_ms > self.now.mono_ms, "it spins at {to_ms}");
            self.now = self.now.plus_ms(to_ms - self.now.mono_ms);
            self.eligibility.handle_timeout(self.now);
            if next_ms.is_none() {
                return;
            }
        }
    }

    fn missing(&self) -> Vec<Missing> {
        self.eligibility.missing(Role::Directory, self.now)
    }
}

fn consent() -> Consent {
    Consent { terms_version: TERMS, roles: BOTH }
}

fn plenty() -> Headroom {
    Headroom { cpu_free_percent: 80, bandwidth_free_kbps: 20_000 }
}

#[test]
fn a_node_is_eligible_after_three_networks_reached_it_and_half_an_hour() {
    let mut checked = Checked::consenting(20, 10);
    checked.run_for(10_000);
    assert!(matches!(checked.missing()[..], [Missing::Uptime { .. }]), "{:?}", checked.missing());
    let mut networks: Vec<u32> = checked.asked.iter().map(|(_, peer, _)| peer.0 % 10).collect();
    networks.sort_unstable();
    networks.dedup();
    assert_eq!((networks.len(), checked.asked.len()), (3, 3), "three checks, three networks");
    assert_eq!(checked.eligibility.confirmed_ways(checked.now).collect::<Vec<_>>(), [UDP4]);
    checked.eligibility.set_too_few(true);
    assert_eq!(checked.eligibility.roles(checked.now), BOTH, "uptime is not asked for in need");
    checked.eligibility.set_too_few(false);
    checked.run_for(30 * MINUTE_MS);
    assert_eq!(checked.eligibility.roles(checked.now), BOTH);
}

#[test]
fn nobody_is_troubled_before_the_owner_consents() {
    let mut checked = Checked::new(20, 10);
    checked.run_for(2 * HOUR_MS);
    assert!(checked.asked.is_empty());
    assert!(checked.missing().contains(&Missing::Consent));
    let older = Consent { terms_version: TERMS - 1, roles: BOTH };
    checked.eligibility.handle_consent(Some(older), checked.now);
    checked.run_for(2 * HOUR_MS);
    assert!(checked.asked.is_empty());
    assert!(checked.missing().contains(&Missing::NewTerms { accepted: TERMS - 1, current: TERMS }));
}

#[test]
fn checks_go_on_for_ever_and_are_few() {
    let mut checked = Checked::consenting(50, 30);
    checked.run_for(24 * HOUR_MS);
    assert_eq!(checked.eligibility.roles(checked.now), BOTH);
    assert!((36..=90).contains(&checked.asked.len()), "{} checks in a day", checked.asked.len());
}

#[test]
fn one_liar_changes_nothing_and_many_failures_do() {
    let mut checked = Checked::consenting(12, 12);
    checked.in_vain = |peer| peer.0 == 5;
    checked.run_for(6 * HOUR_MS);
    assert!(checked.asked.iter().any(|(_, peer, _)| peer.0 == 5), "the liar was never asked");
    assert_eq!(checked.eligibility.roles(checked.now), BOTH);
    checked.in_vain = |_| true;
    checked.run_for(HOUR_MS);
    assert_eq!(checked.eligibility.roles_to_keep(checked.now), Roles::default());
    assert!(checked.missing().iter().any(|missing| matches!(missing, Missing::Unreachable { .. })));
    assert_eq!(checked.eligibility.refuted_ways(checked.now).collect::<Vec<_>>(), [UDP4]);
    checked.in_vain = |_| false;
    checked.run_for(6 * HOUR_MS);
    assert_eq!(checked.eligibility.roles(checked.now), BOTH, "it recovers");
}

#[test]
fn one_supernode_alone_cannot_make_another_stop() {
    let mut checked = Checked::consenting(1, 1);
    checked.run_for(HOUR_MS);
    assert_eq!(checked.eligibility.roles(checked.now), BOTH, "the only one there is confirms alone");
    checked.in_vain = |_| true;
    checked.run_for(24 * HOUR_MS);
    assert_eq!(checked.eligibility.roles_to_keep(checked.now), BOTH);
    assert_eq!(checked.eligibility.roles(checked.now), Roles::default());
}

#[test]
fn a_node_that_nobody_reaches_asks_less_and_less() {
    let mut checked = Checked::consenting(12, 12);
    checked.in_vain = |_| true;
    checked.run_for(24 * HOUR_MS);
    assert!(checked.asked.len() < 120, "{} checks in a day", checked.asked.len());
}

#[test]
fn answers_to_no_question_have_no_effect() {
    let mut checked = Checked::consenting(0, 1);
    for peer in 0..50 {
        checked.eligibility.handle_checked(PeerRef(peer), UDP4, true, checked.now);
    }
    assert_eq!(checked.eligibility.unasked_answers(), 50);
    assert!(
        checked.missing().iter().any(|missing| matches!(missing, Missing::Unconfirmed { networks: 0, .. }))
    );
}

#[test]
fn a_checker_that_refuses_is_left_alone_and_another_is_asked() {
    let mut eligibility = Eligibility::new(Requirements::new(TERMS), 7, start());
    eligibility.handle_consent(Some(consent()), start());
    eligibility.handle_listening(&[UDP4], start());
    let checkers = [0, 1].map(|peer| Checker { peer: PeerRef(peer), network: peer });
    eligibility.handle_checkers(&checkers, start());
    let mut now = start().plus_ms(1_000);
    eligibility.handle_timeout(now);
    let Some(EligibilityCommand::AskCheck { of, way }) = eligibility.poll_command() else {
        panic!("no check")
    };
    eligibility.handle_check_refused(of, way, 600_000, now);
    let mut again = Vec::new();
    while now.mono_ms < start().mono_ms + 590_000 {
        now = now.plus_ms(1_000);
        eligibility.handle_timeout(now);
        while let Some(EligibilityCommand::AskCheck { of, way }) = eligibility.poll_command() {
            again.push(of);
            eligibility.handle_checked(of, way, true, now);
        }
    }
    assert!(!again.is_empty() && !again.contains(&of), "{again:?}");
}

/// Networks that must have reached a node.
const CONFIRMING: u32 = 3;
const UDP6: Way = Way { family: Family::V6, ..UDP4 };

/// What came of a check that was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Reached,
    Busy(u32),
    NotAsked,
}

/// A candidate with these ways, and what each of the checkers answers.
struct Asking {
    eligibility: Eligibility,
    now: Now,
    asked: Vec<(PeerRef, Way)>,
}

impl Asking {
    fn new(ways: &[Way]) -> Self {
        Self::seeded(ways, 7)
    }

    fn seeded(ways: &[Way], seed: u64) -> Self {
        let mut eligibility = Eligibility::new(Requirements::new(TERMS), seed, start());
        eligibility.handle_consent(Some(consent()), start());
        eligibility.handle_headroom(plenty(), start());
        eligibility.set_too_few(true);
        eligibility.handle_listening(ways, start());
        Self { eligibility, now: start(), asked: Vec::new() }
    }

    fn knows(&mut self, checkers: u32) {
        let checkers: Vec<Checker> =
            (0..checkers).map(|peer| Checker { peer: PeerRef(peer), network: peer }).collect();
        self.eligibility.handle_checkers(&checkers, self.now);
    }

    fn run_for(&mut self, seconds: u64, answer: impl Fn(PeerRef, Way) -> Answer) {
        for _ in 0..10 * seconds {
            self.now = self.now.plus_ms(100);
            self.eligibility.handle_timeout(self.now);
            while let Some(EligibilityCommand::AskCheck { of, way }) = self.eligibility.poll_command() {
                self.asked.push((of, way));
                match answer(of, way) {
                    Answer::Reached => self.eligibility.handle_checked(of, way, true, self.now),
                    Answer::Busy(ms) => self.eligibility.handle_check_refused(of, way, ms, self.now),
                    Answer::NotAsked => self.eligibility.handle_check_not_asked(of, way, self.now),
                }
            }
        }
    }

    fn is_eligible(&self) -> bool {
        self.eligibility.roles(self.now) == BOTH
    }
}

#[test]
fn those_that_are_gone_are_not_waited_for_and_count_again_when_they_are_back() {
    let mut asking = Asking::new(&[UDP4]);
    asking.knows(3);
    let one_is_there = |peer: PeerRef, _| if peer.0 == 0 { Answer::Reached } else { Answer::NotAsked };
    asking.run_for(30, one_is_there);
    assert!(asking.is_eligible(), "{:?}", asking.eligibility.missing(Role::Relay, asking.now));
    asking.run_for(3_600, one_is_there);
    assert!(asking.is_eligible());
    assert!(asking.asked.len() < 40, "{} questions in an hour", asking.asked.len());
    asking.run_for(2 * 3_600, |_, _| Answer::Reached);
    let heard = |peer| asking.asked.iter().rev().take(6).any(|(asked, _)| asked.0 == peer);
    assert!(asking.is_eligible() && heard(1) && heard(2));
}

#[test]
fn who_could_not_be_asked_about_one_way_is_listened_to_about_the_other() {
    let mut asking = Asking::new(&[UDP4, UDP6]);
    asking.knows(1);
    let mut asked = Vec::new();
    while asked.len() < 2 {
        asking.now = asking.now.plus_ms(100);
        asking.eligibility.handle_timeout(asking.now);
        asked.extend(std::iter::from_fn(|| asking.eligibility.poll_command()));
    }
    asking.eligibility.handle_check_not_asked(PeerRef(0), UDP6, asking.now);
    assert!(!asking.is_eligible());
    asking.eligibility.handle_checked(PeerRef(0), UDP4, true, asking.now);
    assert_eq!(asking.eligibility.unasked_answers(), 0);
    assert!(asking.is_eligible());
    asking.run_for(10, |_, _| Answer::Reached);
    assert_eq!(asking.eligibility.confirmed_ways(asking.now).count(), 2, "it is asked again soon");
}

#[test]
fn who_has_spoken_is_not_asked_again_in_place_of_one_who_has_not() {
    for silent in [Answer::NotAsked, Answer::Busy(20_000), Answer::Busy(600_000)] {
        let mut asking = Asking::new(&[UDP4]);
        asking.knows(2);
        asking.run_for(600, |peer, _| if peer.0 == 0 { Answer::Reached } else { silent });
        let again = asking.asked.iter().filter(|(peer, _)| peer.0 == 0).count();
        assert!((1..=6).contains(&again), "{again} times in ten minutes");
    }
}

#[test]
fn sixty_in_one_network_that_never_answer_delay_a_node_once() {
    const NEVER: Answer = Answer::Busy(600_000);
    for seed in 0..20 {
        let mut asking = Asking::seeded(&[UDP4], seed);
        let network = |peer| if peer < CONFIRMING { peer } else { CONFIRMING };
        let checkers = (0..64).map(|peer| Checker { peer: PeerRef(peer), network: network(peer) });
        asking.eligibility.handle_checkers(&checkers.collect::<Vec<_>>(), start());
        asking.run_for(30, |peer, _| if peer.0 < CONFIRMING { Answer::Reached } else { NEVER });
        assert!(asking.is_eligible(), "{:?}", asking.eligibility.missing(Role::Relay, asking.now));
        let in_vain = asking.asked.iter().filter(|(peer, _)| peer.0 >= CONFIRMING).count();
        assert!(in_vain <= 1, "{in_vain} questions in vain");
    }
}

#[test]
fn each_of_several_newcomers_is_asked() {
    let mut asking = Asking::new(&[UDP4]);
    for known in 1..=CONFIRMING {
        asking.knows(known);
        asking.run_for(5, |_, _| Answer::Reached);
    }
    asking.run_for(120, |_, _| Answer::Reached);
    assert!(asking.is_eligible(), "{:?}", asking.eligibility.missing(Role::Relay, asking.now));
    let asked: Vec<u32> = asking.asked.iter().map(|(peer, _)| peer.0).collect();
    assert_eq!(asked, (0..CONFIRMING).collect::<Vec<_>>(), "each once");
}

#[test]
fn a_newcomer_takes_nobodys_eligibility_for_a_minute_and_cannot_put_it_off() {
    let mut asking = Asking::new(&[UDP4]);
    asking.knows(1);
    asking.run_for(5, |_, _| Answer::Reached);
    assert!(asking.is_eligible());
    let busy = |_, _| Answer::Busy(3_600_000);
    for known in 2..30 {
        asking.knows(known);
        asking.run_for(2, busy);
        assert!(asking.is_eligible(), "{known} are known");
    }
    for known in 30..45 {
        asking.knows(known);
        asking.run_for(1, busy);
    }
    assert!(!asking.is_eligible(), "however many more are told of, a minute is a minute");
    asking.run_for(60, busy);
    asking.knows(45);
    asking.run_for(10, |_, _| Answer::Reached);
    assert!(!asking.is_eligible(), "two of three");
    asking.knows(46);
    asking.run_for(10, |_, _| Answer::Reached);
    assert!(asking.is_eligible());
}

#[test]
fn each_thing_that_is_missing_has_its_reason() {
    let mut checked = Checked::consenting(12, 12);
    checked.run_for(HOUR_MS);
    let now = checked.now;
    let eligibility = &mut checked.eligibility;
    eligibility.handle_headroom(Headroom { cpu_free_percent: 5, bandwidth_free_kbps: 1_000 }, now);
    assert_eq!(
        eligibility.missing(Role::Relay, now),
        [
            Missing::Cpu { free_percent: 5, wanted_percent: 25 },
            Missing::Bandwidth { free_kbps: 1_000, wanted_kbps: 2_000 }
        ]
    );
    assert_eq!(eligibility.roles_to_keep(now), BOTH, "serving uses headroom up; that is no reason to stop");
    eligibility.handle_headroom(plenty(), now);
    let used = Situation { relay_bytes: 1_000, ..Situation::default() };
    eligibility.handle_caps(Caps { relay_bytes_a_month: Some(1_000), ..Caps::default() }, now);
    eligibility.handle_situation(used, now);
    assert_eq!(eligibility.roles_to_keep(now), Roles::DIRECTORY, "the roles are capped apart");
    assert_eq!(eligibility.missing(Role::Relay, now), [Missing::MonthlyCap { bytes: 1_000 }]);
    let situation = Situation { metered: true, on_battery: true, outdated: true, ..Situation::default() };
    eligibility.handle_situation(situation, now);
    assert_eq!(
        eligibility.missing(Role::Directory, now),
        [Missing::Metered, Missing::OnBattery, Missing::Outdated]
    );
    eligibility.handle_situation(Situation::default(), now);
    let hours = Hours { from_min: 6 * 60, until_min: 8 * 60, utc_offset_min: 0 };
    eligibility.handle_caps(Caps { hours: Some(hours), ..Caps::default() }, now);
    assert_eq!(
        eligibility.missing(Role::Directory, now),
        [Missing::OutsideHours { opens_in_ms: 5 * HOUR_MS }]
    );
    checked.run_for(5 * HOUR_MS);
    assert_eq!(checked.eligibility.roles(checked.now), BOTH, "the hour has come");
    checked.eligibility.handle_interrupted(checked.now);
    assert_eq!(checked.missing(), [Missing::Uptime { missing_ms: 30 * MINUTE_MS }]);
    checked.eligibility.handle_addresses_changed(checked.now);
    assert!(
        checked.missing().iter().any(|missing| matches!(missing, Missing::Unconfirmed { networks: 0, .. }))
    );
    checked.eligibility.handle_listening(&[Way { carrier: Carrier::Tcp, ..UDP4 }], checked.now);
    assert!(checked.missing().contains(&Missing::NoWayIn), "TCP alone is not enough");
}

// ---- candidacy ----------------------------------------------------------------------------------------------------

/// One node; time goes on in steps, and what it wants is noted with its moment.
struct Node {
    candidacy: Candidacy,
    now: Now,
    done: Vec<(u64, Command)>,
}

impl Node {
    fn new(seed: u64) -> Self {
        Self::with_config(Config::default(), seed)
    }

    fn with_config(config: Config, seed: u64) -> Self {
        Self { candidacy: Candidacy::new(config, seed, start()), now: start(), done: Vec::new() }
    }

    fn reserve(seed: u64, in_sight: u32, load_percent: u32) -> Self {
        let mut node = Self::new(seed);
        node.candidacy.handle_sight(&sight(in_sight, load_percent), node.now);
        node.candidacy.handle_roles(BOTH, BOTH, node.now);
        node.run_for(0);
        node
    }

    /// A supernode that began while there were too few.
    fn supernode(seed: u64, in_sight: u32, load_percent: u32) -> Self {
        let mut node = Self::reserve(seed, 0, 0);
        node.run_for(MINUTE_MS);
        assert_eq!(node.candidacy.state(), State::Supernode);
        node.candidacy.handle_sight(&sight(in_sight, load_percent), node.now);
        node.done.clear();
        node
    }

    fn run_for(&mut self, ms: u64) {
        let end_ms = self.now.mono_ms + ms;
        loop {
            let commands = std::iter::from_fn(|| self.candidacy.poll_command());
            self.done.extend(commands.map(|command| (self.now.mono_ms, command)));
            let next_ms = self.candidacy.poll_timeout().filter(|next_ms| *next_ms <= end_ms);
            let Some(to_ms) = next_ms else { break };
            assert!(to_ms > self.now.mono_ms, "it spins at {to_ms}");
            self.now = self.now.plus_ms(to_ms - self.now.mono_ms);
            self.candidacy.handle_timeout(self.now);
        }
        self.now = self.now.plus_ms(end_ms - self.now.mono_ms);
    }

    fn invite(&mut self, from: u32, load_percent: u32) {
        let not_after_unix_ms = self.now.unix_ms + MINUTE_MS;
        let invitation = Invitation { from: PeerRef(from), load_percent, not_after_unix_ms };
        self.candidacy.handle_invitation(&invitation, self.now);
        self.run_for(0);
    }

    fn witnesses(&self) -> Vec<PeerRef> {
        let asked = |command: &(u64, Command)| match command.1 {
            Command::AskLoad(peer) => Some(peer),
            _ => None,
        };
        self.done.iter().filter_map(asked).collect()
    }

    fn invited(&self) -> Vec<(u64, PeerRef)> {
        let invited = |command: &(u64, Command)| match command.1 {
            Command::Invite(peer) => Some((command.0, peer)),
            _ => None,
        };
        self.done.iter().filter_map(invited).collect()
    }
}

fn sight(count: u32, load_percent: u32) -> Vec<Sighted> {
    (0..count).map(|peer| Sighted { peer: PeerRef(peer), network: peer, roles: BOTH, load_percent }).collect()
}

#[test]
fn a_reserve_announces_itself_to_three_networks_now_and_then() {
    let mut node = Node::reserve(1, 20, 40);
    node.run_for(24 * HOUR_MS);
    let announced: Vec<(u64, u32)> = node
        .done
        .iter()
        .filter_map(|(at_ms, command)| match command {
            Command::Announce(peer) => Some((*at_ms, peer.0)),
            _ => None,
        })
        .collect();
    assert_eq!(announced.iter().filter(|(at_ms, _)| *at_ms == announced[0].0).count(), 3);
    assert!((90..=150).contains(&announced.len()), "{} in a day", announced.len());
    assert_eq!(node.candidacy.state(), State::Reserve, "nobody needs it");
}

#[test]
fn an_invitation_needs_the_word_of_three_independent_supernodes() {
    for (loads, serves) in [([80, 90, 10], true), ([80, 10, 10], false), ([0, 0, 100], false)] {
        let mut node = Node::reserve(2, 12, 60);
        node.invite(0, 75);
        let witnesses = node.witnesses();
        assert_eq!(witnesses.len(), 3, "{witnesses:?}");
        assert!(!witnesses.contains(&PeerRef(0)), "the inviter is no witness");
        for (witness, load) in witnesses.into_iter().zip(loads) {
            assert_eq!(node.candidacy.state(), State::Reserve);
            node.candidacy.handle_load_answer(witness, Some(load), node.now);
        }
        node.run_for(0);
        let state = if serves { State::Supernode } else { State::Reserve };
        assert_eq!(node.candidacy.state(), state, "{loads:?}");
        let answer = Command::AnswerInvitation { to: PeerRef(0), accepted: serves };
        assert!(node.done.iter().any(|(_, command)| *command == answer));
    }
}

#[test]
fn silent_witnesses_are_replaced_and_strangers_and_second_answers_do_not_count() {
    let mut node = Node::reserve(3, 12, 60);
    node.invite(0, 75);
    let first = node.witnesses();
    for _ in 0..5 {
        node.candidacy.handle_load_answer(first[0], Some(100), node.now);
        node.candidacy.handle_load_answer(PeerRef(99), Some(100), node.now);
    }
    assert_eq!(node.candidacy.state(), State::Reserve);
    node.run_for(10_000);
    let asked = node.witnesses();
    assert_eq!(asked.len(), 5, "two were silent, two more are asked");
    node.candidacy.handle_load_answer(asked[3], Some(100), node.now);
    node.candidacy.handle_load_answer(asked[4], Some(100), node.now);
    assert_eq!(node.candidacy.state(), State::Supernode);
}

#[test]
fn witnesses_in_the_inviters_network_are_not_asked() {
    let mut node = Node::new(4);
    let hostile = |peer: u32| Sighted { peer: PeerRef(peer), network: 66, roles: BOTH, load_percent: 100 };
    let mut seen: Vec<Sighted> = (100..200).map(hostile).collect();
    seen.extend(sight(6, 10));
    node.candidacy.handle_sight(&seen, node.now);
    node.candidacy.handle_roles(BOTH, BOTH, node.now);
    node.invite(100, 100);
    assert!(node.witnesses().iter().all(|witness| witness.0 < 6), "{:?}", node.witnesses());
    assert_eq!(node.witnesses().len(), 3);
}

#[test]
fn unsound_invitations_and_orders_are_counted_and_have_no_effect() {
    let mut node = Node::reserve(5, 12, 60);
    node.invite(0, 30);
    node.invite(77, 100);
    let expired = Invitation { from: PeerRef(1), load_percent: 90, not_after_unix_ms: node.now.unix_ms - 1 };
    node.candidacy.handle_invitation(&expired, node.now);
    for _ in 0..1_000 {
        node.candidacy.handle_order();
    }
    node.run_for(0);
    let figures = node.candidacy.figures();
    assert_eq!((figures.invitations_ignored, figures.orders_ignored), (3, 1_000));
    assert!(node.witnesses().is_empty());
    assert_eq!(node.candidacy.state(), State::Reserve);
    let mut supernode = Node::supernode(5, 12, 60);
    for from in 0..12 {
        supernode.invite(from, 100);
        supernode.candidacy.handle_order();
    }
    assert_eq!(supernode.candidacy.state(), State::Supernode);
    assert!(supernode.done.iter().all(|(_, command)| !matches!(command, Command::AnswerInvitation { .. })));
    let mut plain = Node::new(6);
    plain.candidacy.handle_sight(&sight(12, 90), plain.now);
    plain.invite(0, 100);
    plain.run_for(HOUR_MS);
    assert_eq!((plain.candidacy.state(), plain.done.len()), (State::Plain, 0));
}

#[test]
fn a_flood_of_invitations_asks_few_questions() {
    let mut node = Node::reserve(7, 12, 10);
    for round in 0..3_600 {
        node.invite(round % 12, 100);
        node.run_for(1_000);
        let open = node.witnesses();
        for witness in open {
            node.candidacy.handle_load_answer(witness, Some(10), node.now);
        }
    }
    assert!(node.witnesses().len() <= 40, "{} questions in an hour", node.witnesses().len());
    assert_eq!(node.candidacy.state(), State::Reserve);
}

#[test]
fn a_loaded_supernode_invites_one_reserve_an_hour() {
    let mut node = Node::supernode(8, 12, 60);
    for peer in 100..150 {
        assert!(node.candidacy.handle_announce(PeerRef(peer), peer, node.now));
    }
    node.candidacy.handle_load(69, node.now);
    node.run_for(HOUR_MS);
    assert!(node.invited().is_empty());
    for peer in 100..150 {
        assert!(node.candidacy.handle_announce(PeerRef(peer), peer, node.now));
    }
    let from_ms = node.now.mono_ms;
    node.candidacy.handle_load(71, node.now);
    node.run_for(110 * MINUTE_MS);
    let invited = node.invited();
    assert_eq!(invited.len(), 2, "{invited:?}");
    assert!(invited[0].0 <= from_ms + 2 * MINUTE_MS + 1 && invited[1].0 >= invited[0].0 + HOUR_MS);
    assert_ne!(invited[0].1, invited[1].1);
    node.candidacy.handle_invitation_answer(PeerRef(1_000), true);
    assert_eq!(node.candidacy.figures().accepted, 0, "nobody invited that one");
    node.candidacy.handle_invitation_answer(invited[1].1, true);
    assert_eq!(node.candidacy.figures().accepted, 1);
}

/// A full one with fifty reserves, which turns that many devices away each second, and what the others say of their load.
fn full(in_sight: u32, others_percent: u32, turned_away: u32, ms: u64) -> Vec<(u64, PeerRef)> {
    let mut node = Node::supernode(8, in_sight, others_percent);
    for peer in 100..150 {
        node.candidacy.handle_announce(PeerRef(peer), peer, node.now);
    }
    node.candidacy.handle_load(100, node.now);
    for _ in 0..ms / 1_000 {
        if turned_away > 0 {
            node.candidacy.handle_no_place(turned_away, node.now);
        }
        node.run_for(1_000);
    }
    node.invited()
}

#[test]
fn where_devices_find_no_place_it_invites_one_a_minute() {
    let invited = full(12, 90, 1, 10 * MINUTE_MS);
    assert!((8..=10).contains(&invited.len()), "{invited:?}");
    let apart = invited.windows(2).all(|two| two[1].0 >= two[0].0 + MINUTE_MS && two[0].1 != two[1].1);
    assert!(apart, "{invited:?}");
    assert_eq!(full(12, 90, 0, 10 * MINUTE_MS).len(), 1, "a load alone is no hurry");
    assert_eq!(full(12, 40, 100, 10 * MINUTE_MS).len(), 1, "the others have room: devices are sent to them");
}

#[test]
fn a_moment_of_need_hurries_nobody_for_long() {
    let mut node = Node::supernode(8, 12, 90);
    for peer in 100..150 {
        node.candidacy.handle_announce(PeerRef(peer), peer, node.now);
    }
    node.candidacy.handle_load(100, node.now);
    node.run_for(20_000);
    node.candidacy.handle_no_place(1_000, node.now);
    node.run_for(59 * MINUTE_MS);
    assert_eq!(node.invited().len(), 1, "{:?}", node.invited());
}

#[test]
fn who_serves_by_now_is_invited_no_more() {
    let mut node = Node::supernode(8, 12, 90);
    for peer in 20..30 {
        node.candidacy.handle_announce(PeerRef(peer), peer, node.now);
    }
    node.candidacy.handle_sight(&sight(30, 90), node.now);
    assert_eq!(node.candidacy.figures().reserves_known, 0);
}

#[test]
fn a_reserve_whose_supernodes_are_gone_announces_itself_to_others() {
    let mut node = Node::reserve(1, 20, 40);
    node.run_for(MINUTE_MS);
    let told = |node: &Node| -> Vec<PeerRef> {
        let told = node.done.iter().filter_map(|(_, command)| match command {
            Command::Announce(peer) => Some(*peer),
            _ => None,
        });
        told.collect()
    };
    let first = told(&node);
    assert_eq!(first.len(), 3);
    let alive: Vec<Sighted> =
        sight(20, 40).into_iter().filter(|seen| !first[..2].contains(&seen.peer)).collect();
    node.candidacy.handle_sight(&alive, node.now);
    node.run_for(MINUTE_MS);
    let then = told(&node);
    assert_eq!(then.len(), 6, "{then:?}");
    assert!(then[3..].iter().all(|peer| !first[..2].contains(peer)));
    // One that sees nobody of those it told, whatever it does, is no flood.
    for _ in 0..600 {
        let network = u32::try_from(node.now.mono_ms % 1_000).unwrap() * 100;
        let others = sight(6, 40).into_iter().map(|seen| Sighted {
            peer: PeerRef(network + seen.peer.0 + 1_000),
            network: network + seen.network,
            ..seen
        });
        node.candidacy.handle_sight(&others.collect::<Vec<_>>(), node.now);
        node.run_for(1_001);
    }
    assert!(told(&node).len() <= 6 + 3 * 40, "{} in ten minutes", told(&node).len());
}

#[test]
fn who_serves_knows_reserves_and_nobody_else_does() {
    let mut node = Node::reserve(9, 12, 60);
    assert!(!node.candidacy.handle_announce(PeerRef(100), 100, node.now));
    assert_eq!(node.candidacy.figures().reserves_known, 0);
}

#[test]
fn too_few_in_sight_promotes_a_few_of_many_within_half_a_minute() {
    for (reserves, most) in [(1_u64, 1), (9, 9), (1_000, 60)] {
        let mut nodes: Vec<Node> = (0..reserves).map(|seed| Node::reserve(seed + 100, 1, 50)).collect();
        let mut serving = 0;
        let mut took_s = 0;
        // News of a new supernode travels for two seconds.
        let mut told = [0_usize; 2];
        while serving < 3.min(nodes.len()) {
            took_s += 1;
            assert!(took_s <= 20, "{serving} of {reserves} serve after {took_s} s");
            let seen = sight(u32::try_from(told[0]).unwrap() + 1, 50);
            for node in &mut nodes {
                node.candidacy.handle_sight(&seen, node.now);
                node.run_for(1_000);
            }
            serving = nodes.iter().filter(|node| node.candidacy.state() == State::Supernode).count();
            told = [told[1], serving];
        }
        println!("{serving} of {reserves} reserves serve after {took_s} s");
        assert!(serving <= most, "{serving} of {reserves} promoted themselves");
    }
}

#[test]
fn a_crowd_in_one_network_does_not_look_like_many() {
    let mut node = Node::new(10);
    let crowd: Vec<Sighted> = (0..100)
        .map(|peer| Sighted { peer: PeerRef(peer), network: 66, roles: BOTH, load_percent: 0 })
        .collect();
    node.candidacy.handle_sight(&crowd, node.now);
    node.candidacy.handle_roles(BOTH, BOTH, node.now);
    node.run_for(MINUTE_MS);
    assert_eq!(node.candidacy.state(), State::Supernode);
    assert_eq!(node.candidacy.figures().promoted_itself, 1);
}

#[test]
fn enough_in_sight_and_nobody_promotes_itself() {
    let mut node = Node::reserve(11, 4, 100);
    node.run_for(24 * HOUR_MS);
    assert_eq!(node.candidacy.state(), State::Reserve);
    let mut blind = Node::new(12);
    blind.candidacy.handle_roles(BOTH, BOTH, blind.now);
    blind.run_for(24 * HOUR_MS);
    assert_eq!(blind.candidacy.state(), State::Reserve, "who has not looked yet knows nothing");
}

#[test]
fn long_without_work_it_leaves_if_the_others_can_take_it() {
    for (in_sight, load, leaves) in [(12, 30, true), (3, 30, false), (12, 80, false)] {
        let mut left = 0;
        for seed in 0..8 {
            let mut node = Node::supernode(seed, in_sight, load);
            node.candidacy.handle_load(10, node.now);
            node.run_for(90 * MINUTE_MS);
            assert_eq!(node.candidacy.state(), State::Supernode, "not so soon");
            node.run_for(12 * HOUR_MS);
            left += u32::from(node.candidacy.state() == State::Draining);
        }
        assert_eq!(left, if leaves { 8 } else { 0 }, "{in_sight} in sight at {load} %");
    }
}

#[test]
fn work_in_between_begins_the_wait_anew() {
    let mut node = Node::supernode(13, 12, 30);
    for _ in 0..24 {
        node.candidacy.handle_load(10, node.now);
        node.run_for(80 * MINUTE_MS);
        node.candidacy.handle_load(20, node.now);
        node.run_for(MINUTE_MS);
    }
    assert_eq!(node.candidacy.state(), State::Supernode);
}

#[test]
fn who_left_for_want_of_work_is_a_reserve_again_and_rests() {
    let mut node = Node::supernode(14, 12, 30);
    node.run_for(24 * HOUR_MS);
    let leave = Command::Drain { within_ms: 600_000, why: Leave::Unneeded };
    assert_eq!(node.done.last().map(|(_, command)| *command), Some(leave));
    node.candidacy.handle_drained(node.now);
    assert_eq!((node.candidacy.state(), node.candidacy.serving()), (State::Reserve, Roles::default()));
    node.invite(0, 100);
    assert!(node.witnesses().is_empty(), "it rests");
    node.run_for(HOUR_MS);
    node.invite(0, 100);
    assert_eq!(node.witnesses().len(), 3);
}

#[test]
fn the_owners_word_ends_it_at_once_also_while_it_leaves_at_leisure() {
    let none = Roles::default();
    let mut node = Node::supernode(15, 1, 90);
    node.candidacy.handle_roles(none, BOTH, node.now);
    node.run_for(HOUR_MS);
    assert_eq!(node.candidacy.state(), State::Supernode, "headroom is no reason to stop");
    node.candidacy.handle_roles(none, Roles::DIRECTORY, node.now);
    node.run_for(0);
    assert_eq!(node.candidacy.serving(), Roles::DIRECTORY, "the roles end apart");
    node.candidacy.handle_roles(none, none, node.now);
    node.run_for(0);
    let now_at_once = Command::Drain { within_ms: 60_000, why: Leave::NotAllowed };
    assert_eq!(node.done.last().map(|(_, command)| *command), Some(now_at_once));
    node.candidacy.handle_drained(node.now);
    assert_eq!(node.candidacy.state(), State::Plain);

    let mut leisurely = Node::supernode(16, 12, 30);
    leisurely.run_for(24 * HOUR_MS);
    assert_eq!(leisurely.candidacy.state(), State::Draining);
    leisurely.candidacy.handle_roles(none, none, leisurely.now);
    leisurely.run_for(0);
    assert_eq!(leisurely.done.last().map(|(_, command)| *command), Some(now_at_once));
}

#[test]
fn one_started_to_serve_serves_at_once_and_stays() {
    let mut node = Node::with_config(Config { steady: true }, 17);
    node.candidacy.handle_roles(BOTH, BOTH, node.now);
    node.candidacy.handle_sight(&sight(12, 0), node.now);
    node.run_for(24 * HOUR_MS);
    assert_eq!(node.done, [(start().mono_ms, Command::Serve { roles: BOTH })]);
}
