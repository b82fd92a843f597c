//! Who may ring: invitations, blocking, silent requests; and ten thousand strangers at the door.

use std::collections::BTreeSet;

use tandem_core::call::*;
use tandem_core::time::Now;
use tandem_proto::identity::{AccountSecret, DeviceSecret, InvitationSecret};
use tandem_proto::ids::AccountKey;
use tandem_proto::names::NetworkId;
use tandem_proto::request::Challenge;
use tandem_proto::signed::{DeviceEntry, DeviceSet};
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{ContactRequest, RequestAnswer, SignalFrame, SignalHello};

use crate::call_world::{START, World, certificate};
use crate::memory::held;

const ALICE: usize = 0;
const BOB: usize = 1;
const CAROL: usize = 2;
/// Long enough to ask, to work and to leave the request.
const REQUEST_MS: u64 = 20_000;

/// People who do not ring for strangers.
fn world(people: usize) -> World {
    let mut world = World::people(people, 5);
    world.nodes.iter_mut().for_each(|node| node.calls.set_strangers(Strangers::Requests));
    world
}

fn secret() -> InvitationSecret {
    InvitationSecret([9; 20])
}

fn invitation(uses: u32) -> Invitation {
    Invitation {
        id: InvitationId(7),
        hash: secret().hash(),
        not_after_unix_ms: START.unix_ms + 60_000,
        uses,
        accounts: Vec::new(),
    }
}

fn invited() -> CallOptions {
    CallOptions { invitation: Some(secret()), ..CallOptions::default() }
}

fn hang_up(world: &mut World, node: usize, call: CallId) {
    world.act(node, |calls, now| calls.hang_up(call, now));
    world.run(500);
}

/// Asks, and says how it went.
fn ask(world: &mut World, from: usize, to: usize) -> AskOutcome {
    let account = world.nodes[to].account;
    world
        .act(from, |calls, now| calls.ask(CallId([0xee; 16]), account, "Al\u{7}ice", "Hello.", now))
        .unwrap();
    world.run(REQUEST_MS);
    let asked = |command: &Command| match command {
        Command::Asked { outcome, .. } => Some(*outcome),
        _ => None,
    };
    world.nodes[from].commands.iter().rev().find_map(asked).expect("the request has ended")
}

fn kept(world: &World, node: usize) -> Vec<NewRequest> {
    let kept = |command: &Command| match command {
        Command::KeepRequest(new) => Some(new.clone()),
        _ => None,
    };
    world.nodes[node].commands.iter().filter_map(kept).collect()
}

#[test]
fn a_stranger_never_rings_by_default_and_does_not_learn_that_a_call_goes_on() {
    assert_eq!(StrangerRules::default().mode, Strangers::Requests);
    let mut world = world(3);
    world.place(CAROL, BOB);
    world.run(1_000);
    assert_eq!(world.end_reason(CAROL), Some(EndReason::Refused));
    assert_eq!(world.rings(BOB), []);
    let alice = world.nodes[ALICE].account;
    world.nodes[BOB].calls.set_contacts(vec![alice]);
    world.nodes[BOB].auto_answer = true;
    world.place(ALICE, BOB);
    world.run(1_000);
    assert!(world.talks(BOB));
    world.place(CAROL, BOB);
    world.run(1_000);
    assert_eq!(world.end_reason(CAROL), Some(EndReason::Refused), "not busy");
    assert!(world.talks(BOB) && world.talks(ALICE));
}

#[test]
fn an_invitation_rings_for_as_many_accounts_as_it_says_and_stays_relayed() {
    let mut world = world(3);
    world.nodes[BOB].calls.set_invitations(vec![invitation(1)]);
    let call = world.place_with(ALICE, BOB, invited());
    world.run(1_000);
    assert_eq!(world.rings(BOB), [call]);
    world.act(BOB, |calls, now| calls.answer(call, now)).unwrap();
    world.run(1_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
    let direct = world.nodes.iter().flat_map(|node| node.media.values()).any(|media| media.remote_direct);
    assert!(!direct, "an invitation shows no address");
    hang_up(&mut world, ALICE, call);

    let again = world.place_with(ALICE, BOB, invited());
    world.run(1_000);
    assert_eq!(world.rings(BOB), [call, again], "the same account may use it again");
    hang_up(&mut world, ALICE, again);
    world.place_with(CAROL, BOB, invited());
    world.run(1_000);
    assert_eq!(world.end_reason(CAROL), Some(EndReason::Refused), "it is used up");
    let used = world.nodes[BOB].commands.iter().filter(|command| {
        matches!(command, Command::InvitationUsed { invitation: InvitationId(7), account }
            if *account == world.nodes[ALICE].account)
    });
    assert_eq!(used.count(), 1);
}

#[test]
fn invitations_end_and_do_not_help_the_blocked() {
    let mut world = world(3);
    world.nodes[BOB].calls.set_invitations(vec![invitation(5)]);
    let alice = world.nodes[ALICE].account;
    world.nodes[BOB].calls.set_blocked(vec![alice]);
    world.place_with(ALICE, BOB, invited());
    world.run(1_000);
    assert_eq!(world.end_reason(ALICE), Some(EndReason::Refused));
    let wrong = CallOptions { invitation: Some(InvitationSecret([8; 20])), ..CallOptions::default() };
    world.place_with(CAROL, BOB, wrong);
    world.run(1_000);
    assert_eq!(world.end_reason(CAROL), Some(EndReason::Refused));
    world.run(60_000);
    world.place_with(CAROL, BOB, invited());
    world.run(1_000);
    assert_eq!(world.rings(BOB), []);
}

#[test]
fn the_blocked_hear_that_the_line_is_busy_where_strangers_ring() {
    let mut world = world(2);
    let alice = world.nodes[ALICE].account;
    world.nodes[BOB].calls.set_strangers(Strangers::Ring);
    world.nodes[BOB].calls.set_blocked(vec![alice]);
    world.place(ALICE, BOB);
    world.run(1_000);
    assert_eq!((world.end_reason(ALICE), world.rings(BOB)), (Some(EndReason::Busy), vec![]));
}

#[test]
fn a_request_is_left_without_a_ring_and_kept_once() {
    let mut world = world(2);
    assert_eq!(ask(&mut world, ALICE, BOB), AskOutcome::Left { devices: 1 });
    assert_eq!(ask(&mut world, ALICE, BOB), AskOutcome::Left { devices: 1 });
    let kept = kept(&world, BOB);
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].kept.account, world.nodes[ALICE].account);
    assert_eq!((kept[0].name.as_str(), kept[0].message.as_str()), ("Alice", "Hello."));
    assert_eq!((world.rings(BOB), world.open_links()), (vec![], 0));
}

#[test]
fn the_blocked_and_the_declined_hear_what_everybody_hears() {
    let heard = |prepare: &dyn Fn(&mut Calls, AccountKey)| {
        let mut world = world(2);
        let alice = world.nodes[ALICE].account;
        prepare(&mut world.nodes[BOB].calls, alice);
        let outcome = ask(&mut world, ALICE, BOB);
        let strip = |answer: &RequestAnswer| (answer.status, answer.bits, answer.salt.len());
        let answers: Vec<_> = world.nodes[BOB]
            .sent
            .iter()
            .filter_map(|frame| match &frame.body {
                Some(Body::RequestAnswer(answer)) => Some(strip(answer)),
                _ => None,
            })
            .collect();
        (outcome, answers, kept(&world, BOB).len())
    };
    let (outcome, answers, count) = heard(&|_, _| {});
    assert_eq!((outcome, count), (AskOutcome::Left { devices: 1 }, 1));
    let declined = |calls: &mut Calls, account| {
        let request = KeptRequest { account, bits: 4, at_unix_ms: START.unix_ms, declined: true };
        calls.set_requests(vec![request]);
    };
    let blocked = heard(&|calls, account| calls.set_blocked(vec![account]));
    assert_eq!(blocked, (outcome, answers.clone(), 0));
    assert_eq!(heard(&declined), (outcome, answers.clone(), 0));
    assert_eq!(heard(&|calls, account| calls.set_contacts(vec![account])), (outcome, answers, 0));
}

#[test]
fn who_takes_no_requests_says_so_and_who_is_away_is_not_found() {
    let mut world = world(3);
    world.nodes[BOB].calls.set_strangers(Strangers::Refuse);
    assert_eq!(ask(&mut world, ALICE, BOB), AskOutcome::Closed);
    world.nodes[CAROL].online = false;
    assert_eq!(ask(&mut world, ALICE, CAROL), AskOutcome::NotFound);
    let own = world.nodes[ALICE].account;
    let result = world.act(ALICE, |calls, now| calls.ask(CallId([1; 16]), own, "", "", now));
    assert_eq!(result, Err(AskError::Own));
}

#[test]
fn every_device_of_an_account_gets_the_request() {
    let mut world = world(2);
    let bob = world.nodes[BOB].account;
    world.add_devices(bob, 1, vec![1, 2, 3]);
    world.nodes[2].calls.set_strangers(Strangers::Requests);
    world.act(ALICE, |calls, now| calls.ask(CallId([1; 16]), bob, "", "", now)).unwrap();
    world.run(2 * REQUEST_MS);
    assert_eq!((kept(&world, BOB).len(), kept(&world, 2).len()), (1, 1));
}

#[test]
fn a_callee_that_asks_for_too_much_work_is_left_alone() {
    let mut world = world(2);
    world.tamper = Some(Box::new(|_, mut frame| {
        if let Some(Body::RequestAnswer(answer)) = &mut frame.body {
            answer.bits = 27;
        }
        Some(frame)
    }));
    assert_eq!(ask(&mut world, ALICE, BOB), AskOutcome::TooMuchWork);
}

#[test]
fn a_call_whose_media_is_not_shown_early_comes_about_all_the_same() {
    let mut world = World::people(2, 5);
    world.set_rules(
        BOB,
        StrangerRules { mode: Strangers::Ring, early_media: false, ..StrangerRules::default() },
    );
    let call = world.place(ALICE, BOB);
    world.run(1_000);
    let ringing = |frame: &SignalFrame| matches!(&frame.body, Some(Body::Ringing(r)) if r.media.is_none());
    assert!(world.nodes[BOB].sent.iter().any(ringing));
    let described = |world: &World| world.nodes.iter().any(|n| n.media.values().any(|m| m.remote.is_some()));
    assert!(!described(&world), "nothing is connected while it rings");
    world.act(BOB, |calls, now| calls.answer(call, now)).unwrap();
    world.run(1_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
}

#[test]
fn with_a_contact_kept_to_relays_no_address_is_exchanged_either_way() {
    for caller in [ALICE, BOB] {
        let mut world = World::people(2, 5);
        world.befriend();
        let alice = world.nodes[ALICE].account;
        world.nodes[BOB].calls.set_relayed(vec![alice]);
        world.nodes[1 - caller].auto_answer = true;
        world.place(caller, 1 - caller);
        world.run(2_000);
        assert!(world.talks(ALICE) && world.talks(BOB));
        let own = |frame: &SignalFrame| match &frame.body {
            Some(Body::Candidates(frame)) => frame.candidates.iter().any(|candidate| candidate.kind < 2),
            _ => false,
        };
        assert!(!world.nodes[BOB].sent.iter().any(own), "Bob's address stays here");
        assert!(!world.nodes.iter().any(|node| node.media.values().any(|media| media.remote_direct)));
    }
}

// ---- ten thousand strangers -------------------------------------------------------------------------------------

/// A stranger who does not take no for an answer.
struct Stranger {
    account: AccountKey,
    device: DeviceSecret,
    hello: SignalHello,
}

fn stranger(number: u32) -> Stranger {
    let mut seed = [0x77; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    let account = AccountSecret::from_seed(&seed);
    seed[31] = 1;
    let device = DeviceSecret::from_seed(&seed);
    let entry = DeviceEntry { device: device.public(), serial: 1 };
    let set = DeviceSet::issue(&account, 1, &[entry], START.unix_ms / 1_000 + 86_400).unwrap();
    let hello = SignalHello {
        version_min: 1,
        version_max: 1,
        certificate: Some(certificate(&account, device.public(), 1).signed().clone()),
        device_set: Some(set.signed().clone()),
        ..SignalHello::default()
    };
    Stranger { account: account.public(), device, hello }
}

/// Sends one frame; what the machine says to it, which may not be much.
fn say(calls: &mut Calls, signal: SignalId, body: Body, now: Now) -> Vec<Command> {
    calls.handle_frame(signal, SignalFrame { body: Some(body) }, now);
    let commands: Vec<Command> = std::iter::from_fn(|| calls.poll_command()).collect();
    assert!(commands.len() <= 4, "{commands:?}");
    commands
}

fn answer_in(commands: &[Command]) -> Option<RequestAnswer> {
    commands.iter().find_map(|command| match command {
        Command::SendSignal { frame: SignalFrame { body: Some(Body::RequestAnswer(answer)) }, .. } => {
            Some(answer.clone())
        }
        _ => None,
    })
}

/// One stranger's whole visit; what was said at its end, and the requests kept.
fn visit(
    calls: &mut Calls,
    callee: AccountKey,
    stranger: &Stranger,
    number: u64,
    honest: bool,
    now: Now,
) -> (u32, Vec<NewRequest>) {
    let signal = SignalId(1_000_000 + number);
    calls.handle_incoming(signal, stranger.device.public(), None, now);
    while calls.poll_command().is_some() {}
    say(calls, signal, Body::Hello(stranger.hello.clone()), now);
    let question = say(calls, signal, Body::ContactRequest(ContactRequest::default()), now);
    let asked = answer_in(&question).unwrap();
    let salt = asked.salt.as_slice().try_into().unwrap();
    let bits = u8::try_from(asked.bits).unwrap();
    let challenge = Challenge::new(&NetworkId::default(), callee, stranger.account, &salt, bits);
    let proof = match honest {
        true => challenge.search(0, 1 << 20).unwrap(),
        false => (0u64..).map(u64::to_be_bytes).find(|proof| !challenge.verifies(proof)).unwrap(),
    };
    let request =
        ContactRequest { proof: proof.to_vec(), bits: asked.bits, message: "x".repeat(140), ..asked_name() };
    let commands = say(calls, signal, Body::ContactRequest(request), now);
    let kept = commands.iter().filter_map(|command| match command {
        Command::KeepRequest(new) => Some(new.clone()),
        _ => None,
    });
    (answer_in(&commands).unwrap().status, kept.collect())
}

fn asked_name() -> ContactRequest {
    ContactRequest { display_name: "A stranger".into(), ..ContactRequest::default() }
}

/// Ten thousand accounts, each twice: once with a false proof and once with a true one.
const VISITS: u32 = 20_000;

#[derive(Default)]
struct Crowd {
    visits: u32,
    /// Whose requests are kept.
    list: BTreeSet<AccountKey>,
    /// What was said, by its number.
    statuses: [u32; 5],
    guest: Option<Stranger>,
}

impl Crowd {
    fn come(&mut self, world: &mut World, callee: AccountKey, many: u32) {
        for _ in 0..many {
            let honest = self.visits % 2 == 1;
            let guest = self.guest.take().unwrap_or_else(|| stranger(self.visits / 2));
            let calls = &mut world.nodes[BOB].calls;
            let (status, kept) = visit(calls, callee, &guest, u64::from(self.visits), honest, world.now);
            self.statuses[status as usize] += 1;
            for new in kept {
                new.replaces.into_iter().for_each(|gone| assert!(self.list.remove(&gone)));
                self.list.insert(new.kept.account);
            }
            self.guest = (!honest).then_some(guest);
            self.visits += 1;
        }
    }
}

#[test]
fn who_has_done_no_work_keeps_nobody_from_being_heard() {
    let mut world = world(2);
    let bob = world.nodes[BOB].account;
    let mut now = world.now;
    for number in 0..500 {
        let calls = &mut world.nodes[BOB].calls;
        visit(calls, bob, &stranger(number), u64::from(number), false, now);
        if number % 50 == 0 {
            now = now.plus_ms(10);
        }
    }
    let calls = &mut world.nodes[BOB].calls;
    let (status, kept) = visit(calls, bob, &stranger(1_000), 1_000, true, now);
    assert_eq!((status, kept.len()), (2, 1));
    // One wrong proof a stream, and three a minute of one account.
    let signal = SignalId(5);
    let guest = stranger(2_000);
    calls.handle_incoming(signal, guest.device.public(), None, now);
    say(calls, signal, Body::Hello(guest.hello.clone()), now);
    let wrong = ContactRequest { proof: vec![0; 8], bits: 255, ..asked_name() };
    let commands = say(calls, signal, Body::ContactRequest(wrong), now);
    assert_eq!(answer_in(&commands).unwrap().status, 1);
    assert!(commands.contains(&Command::CloseSignal(signal)));
    for number in 6..8 {
        visit(calls, bob, &guest, number, false, now);
    }
    assert_eq!(visit(calls, bob, &guest, 9, true, now).0, 3, "it has guessed too often");
    assert_eq!(visit(calls, bob, &guest, 10, true, now.plus_ms(61_000)).0, 2);
}

#[test]
fn ten_thousand_requests_and_as_many_false_ones_change_nothing() {
    /// How long it takes until a contact rings when nobody else is there.
    fn until_it_rings(world: &mut World, mut meanwhile: impl FnMut(&mut World)) -> u64 {
        let rung = world.rings(BOB).len();
        let begun = world.now.mono_ms;
        let call = world.place(ALICE, BOB);
        while world.rings(BOB).len() == rung {
            meanwhile(world);
            world.run(5);
            assert!(world.now.mono_ms < begun + 10_000, "the contact does not ring");
        }
        let after = world.now.mono_ms - begun;
        hang_up(world, ALICE, call);
        after
    }

    let mut world = world(2);
    let (alice, bob) = (world.nodes[ALICE].account, world.nodes[BOB].account);
    world.nodes[BOB].calls.set_contacts(vec![alice]);
    let usual = until_it_rings(&mut world, |_| {});

    let mut door = Crowd::default();
    // A rush of 5,000 a second: proofs are looked at no quicker than they may be.
    for _ in 0..30 {
        door.come(&mut world, bob, 25);
        world.run(5);
    }
    let rung = until_it_rings(&mut world, |world| door.come(world, bob, 25));
    assert_eq!(rung, usual, "with the rush going on, a contact rings as soon as ever");
    // The rest within an hour.
    let mut before = 0;
    while door.visits < VISITS {
        door.come(&mut world, bob, 200);
        world.run(40_000);
        (world.nodes[BOB].commands, world.nodes[BOB].sent) = (Vec::new(), Vec::new());
        if before == 0 && door.visits >= VISITS / 2 {
            before = held();
        }
    }
    let grown = held().saturating_sub(before);
    assert!(grown < 16_384, "after as many strangers again {grown} bytes more are held");
    assert_eq!(until_it_rings(&mut world, |_| {}), usual);
    let count = door.list.len();
    assert!((REQUESTS_MAX / 2..=REQUESTS_MAX).contains(&count), "{count} are kept");
    let [_, again, left, later, closed] = door.statuses;
    assert!(again > 1_000 && left > 1_000 && later > 200 && closed == 0, "{:?}", door.statuses);
}
