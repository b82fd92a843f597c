//! Invitations: from a supernode with much to do to a reserve, frame by frame.

use std::net::IpAddr;

use tandem_core::service::{ClientRef, Command, Config, Endpoint, Service};
use tandem_core::time::Now;
use tandem_proto::identity::ServiceSecret;
use tandem_proto::ids::ServiceKey;
use tandem_proto::names::FailureCode;
use tandem_proto::signed::{Invitation, Roles, SignedMessage, sign};
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{self, HomeFrame, ReserveNotice};

use crate::service::{Bench, failure, own_secret};
use crate::world::UNIX_MS;

const NOW_S: u64 = UNIX_MS / 1_000;

fn secret(n: u8) -> ServiceSecret {
    ServiceSecret::from_seed(&[n; 32])
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([60, n, 0, 1])
}

/// A node that stands by.
fn reserve() -> Bench {
    Bench::new(|config| config.roles = Roles::default())
}

fn to_reserve(inviter: &ServiceSecret) -> Invitation {
    Invitation::issue(inviter, own_secret().public(), 80, NOW_S + 1_800).unwrap()
}

fn body(invitation: &Invitation) -> Body {
    Body::Invitation(wire::Invitation { invitation: Some(invitation.signed().clone()) })
}

fn invited(commands: &[Command]) -> Vec<ServiceKey> {
    let inviter = |command: &Command| match command {
        Command::Invited { invitation, .. } => Some(invitation.inviter()),
        _ => None,
    };
    commands.iter().filter_map(inviter).collect()
}

fn is_no(answer: &Option<Body>) -> bool {
    matches!(answer, Some(Body::InvitationAnswer(answer)) if !answer.accepted)
}

// ---- the reserve's end --------------------------------------------------------------------------------------------

#[test]
fn a_reserve_that_is_invited_decides_and_answers() {
    for accepted in [true, false] {
        let mut bench = reserve();
        let inviter = secret(1);
        let client = bench.supernode_at(1, &inviter, ip(1));
        assert_eq!(bench.ask(client, body(&to_reserve(&inviter))), None, "it considers");
        assert_eq!(invited(&bench.take()), [inviter.public()]);
        bench.service.answer_invitation(secret(2).public(), true, bench.now);
        assert!(bench.sent(client).is_empty(), "that was about another's");
        bench.service.answer_invitation(inviter.public(), accepted, bench.now);
        let sent = bench.sent(client);
        let [Body::InvitationAnswer(answer)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(answer.accepted, accepted);
        assert_eq!(bench.service.roles(), Roles::default(), "to serve is not the service's to decide");
    }
}

#[test]
fn silence_is_a_no_before_the_inviter_gives_up() {
    let mut bench = reserve();
    let client = bench.supernode_at(1, &secret(1), ip(1));
    bench.ask(client, body(&to_reserve(&secret(1))));
    bench.take();
    for _ in 0..4 {
        bench.wait(14_000);
        bench.ask(client, Body::Heartbeat(wire::Heartbeat { in_call: false }));
    }
    assert!(bench.sent(client).iter().any(|said| is_no(&Some(said.clone()))));
}

#[test]
fn forged_invitations_are_refused() {
    let inviter = secret(1);
    let good = to_reserve(&inviter);
    let payload = |reserve: &[u8], load_percent, not_after_s| wire::SupernodeInvitation {
        reserve: reserve.to_vec(),
        load_percent,
        not_after_s,
    };
    let own = own_secret().public();
    let as_descriptor = inviter.sign(wire::SupernodeDescriptor::DOMAIN, &good.signed().payload).to_vec();
    let forged = [
        (FailureCode::Malformed, None),
        (FailureCode::Malformed, Some(wire::Signed::default())),
        (FailureCode::BadCredentials, Some(to_reserve(&secret(2)).signed().clone())),
        (
            FailureCode::BadCredentials,
            Some(wire::Signed { payload: good.signed().payload.clone(), signature: as_descriptor }),
        ),
        (FailureCode::BadCredentials, Some(sign(&payload(&[7; 32], 80, NOW_S + 60), &inviter))),
        (FailureCode::Malformed, Some(sign(&payload(&own.0[..31], 80, NOW_S + 60), &inviter))),
        (FailureCode::Malformed, Some(sign(&payload(&own.0, 101, NOW_S + 60), &inviter))),
        (FailureCode::BadCredentials, Some(sign(&payload(&own.0, 80, NOW_S - 660), &inviter))),
        (FailureCode::BadCredentials, Some(sign(&payload(&own.0, 80, NOW_S + 4_260), &inviter))),
        (FailureCode::BadCredentials, Some(sign(&payload(&own.0, 80, u64::MAX), &inviter))),
    ];
    for (n, (code, signed)) in (1..).zip(forged) {
        let mut bench = reserve();
        let client = bench.supernode_at(n, &inviter, ip(1));
        let answer = bench.ask(client, Body::Invitation(wire::Invitation { invitation: signed.clone() }));
        assert_eq!(failure(answer), code, "{signed:?}");
        assert!(invited(&bench.take()).is_empty());
    }
}

#[test]
fn a_device_invites_nobody() {
    let mut bench = reserve();
    let client = bench.device_at(1, ip(1));
    let answer = bench.ask(client, body(&to_reserve(&secret(1))));
    assert_eq!(failure(answer), FailureCode::BadCredentials);
}

#[test]
fn a_flood_of_invitations_reaches_policy_as_a_trickle() {
    let mut bench = reserve();
    let mut passed_on = 0;
    for n in 0..3_000u64 {
        // A different key each time, from four networks.
        let mut seed = [9; 32];
        seed[..8].copy_from_slice(&n.to_be_bytes());
        let inviter = ServiceSecret::from_seed(&seed);
        let client = bench.supernode_at(n, &inviter, ip(u8::try_from(n % 4).unwrap()));
        let answer = bench.ask(client, body(&to_reserve(&inviter)));
        let news = invited(&bench.take());
        assert!(is_no(&answer) || news.len() == 1);
        for inviter in news {
            passed_on += 1;
            bench.service.answer_invitation(inviter, false, bench.now);
        }
        bench.service.handle_closed(client, bench.now);
        bench.wait(200);
    }
    assert!(passed_on <= 4 * (3 + 1), "{passed_on} in ten minutes");
}

#[test]
fn a_few_wait_for_an_answer_and_one_of_each_inviter() {
    let mut bench = reserve();
    for n in 1..=8u8 {
        let client = bench.supernode_at(n.into(), &secret(n), ip(n));
        let answers = [0, 1].map(|_| bench.ask(client, body(&to_reserve(&secret(n)))));
        assert!(is_no(&answers[1]), "{n} asked twice");
        assert_eq!(is_no(&answers[0]), n > 4, "{n}");
    }
}

#[test]
fn one_that_serves_declines_and_its_policy_hears_nothing() {
    let mut bench = Bench::new(|_| {});
    let client = bench.supernode_at(1, &secret(1), ip(1));
    assert!(is_no(&bench.ask(client, body(&to_reserve(&secret(1))))));
    assert!(invited(&bench.take()).is_empty());
}

// ---- the inviter's end --------------------------------------------------------------------------------------------

/// A serving supernode to which that reserve announced itself.
fn inviter(reserve: ServiceKey) -> Bench {
    let mut bench = Bench::new(|_| {});
    let client = bench.device_at(900, ip(200));
    let address: tandem_proto::multiaddr::TransportAddress =
        "/ip4/60.200.0.1/udp/40000/quic-v1".parse().unwrap();
    let notice = ReserveNotice { service: reserve.0.to_vec(), addresses: vec![address.to_bytes()] };
    assert_eq!(bench.ask(client, Body::ReserveNotice(notice)), None);
    let id = bench.take().into_iter().find_map(|command| match command {
        Command::Announced { id, .. } => Some(id),
        _ => None,
    });
    bench.service.handle_noted(id.unwrap(), true, bench.now);
    bench.service.handle_closed(client, bench.now);
    bench.take();
    bench
}

fn issue(reserve: ServiceKey) -> Invitation {
    Invitation::issue(&own_secret(), reserve, 80, NOW_S + 1_800).unwrap()
}

fn ended(commands: &[Command]) -> Vec<bool> {
    let accepted = |command: &Command| match command {
        Command::InvitationAnswered { accepted, .. } => Some(*accepted),
        _ => None,
    };
    commands.iter().filter_map(accepted).collect()
}

fn connects(commands: &[Command]) -> Vec<ServiceKey> {
    let to = |command: &Command| match command {
        Command::Connect(Endpoint { service, .. }) => Some(*service),
        _ => None,
    };
    commands.iter().filter_map(to).collect()
}

/// The stream it asked for opens, and the reserve says hello. The number of the request that brings the invitation.
fn brought(bench: &mut Bench, client: ClientRef, reserve: &ServiceSecret) -> u64 {
    bench.service.handle_opened(client, reserve.public().0, Some(ip(200)), true, bench.now);
    bench.service.handle_frame(client, crate::service::hello(1, 1, bench.now), bench.now);
    let commands = bench.take();
    let sent = commands.iter().find_map(|command| match command {
        Command::Send { frame: HomeFrame { id, body: Some(Body::Invitation(_)) }, .. } => Some(*id),
        _ => None,
    });
    sent.unwrap_or_else(|| panic!("no invitation in {commands:?}"))
}

#[test]
fn an_invitation_is_brought_once_and_its_answer_told_once() {
    for (answer, accepted) in [
        (Body::InvitationAnswer(wire::InvitationAnswer { accepted: true }), true),
        (Body::InvitationAnswer(wire::InvitationAnswer { accepted: false }), false),
        (Body::Failure(wire::Failure { code: 2, detail: String::new() }), false),
        (Body::Busy(wire::Busy { retry_after_ms: 1, referrals: Vec::new() }), false),
    ] {
        let reserve = secret(5);
        let mut bench = inviter(reserve.public());
        bench.service.invite(issue(reserve.public()), bench.now);
        assert_eq!(connects(&bench.take()), [reserve.public()]);
        let client = ClientRef(7);
        let id = brought(&mut bench, client, &reserve);
        bench.service.handle_frame(client, HomeFrame { id: id + 9, body: Some(answer.clone()) }, bench.now);
        assert!(ended(&bench.take()).is_empty(), "that answers nothing");
        for _ in 0..3 {
            bench.service.handle_frame(client, HomeFrame { id, body: Some(answer.clone()) }, bench.now);
        }
        let commands = bench.take();
        assert_eq!(ended(&commands), [accepted]);
        assert!(commands.contains(&Command::Close(client)), "the stream was for this only");
    }
}

#[test]
fn a_reserve_that_cannot_be_reached_or_does_not_answer_is_a_no_and_forgotten() {
    let reserve = secret(5);
    let mut bench = inviter(reserve.public());
    bench.service.invite(issue(reserve.public()), bench.now);
    bench.service.handle_connect_failed(reserve.public(), bench.now);
    assert_eq!(ended(&bench.take()), [false]);
    bench.service.invite(issue(reserve.public()), bench.now);
    let commands = bench.take();
    assert_eq!((ended(&commands), connects(&commands).len()), (vec![false], 0), "forgotten");

    let mut bench = inviter(reserve.public());
    bench.service.invite(issue(reserve.public()), bench.now);
    let client = ClientRef(7);
    brought(&mut bench, client, &reserve);
    // It keeps the stream alive and says nothing of the invitation.
    let mut told = Vec::new();
    for _ in 0..8 {
        bench.wait(10_000);
        let beats = bench.take();
        told.extend(ended(&beats));
        for command in beats {
            if let Command::Send { client: to, frame } = command
                && to == client
            {
                bench.service.handle_frame(client, frame, bench.now);
            }
        }
    }
    assert_eq!(told, [false]);

    let mut bench = inviter(reserve.public());
    bench.service.invite(issue(reserve.public()), bench.now);
    brought(&mut bench, client, &reserve);
    bench.service.handle_closed(client, bench.now);
    assert_eq!(ended(&bench.take()), [false], "its stream broke");
}

#[test]
fn who_does_not_serve_or_is_not_who_signed_invites_nobody() {
    let reserve = secret(5).public();
    let mut bench = inviter(reserve);
    bench.service.invite(Invitation::issue(&secret(6), reserve, 80, NOW_S + 60).unwrap(), bench.now);
    let commands = bench.take();
    assert_eq!((ended(&commands), connects(&commands).len()), (vec![false], 0));
    let mut bench = inviter(reserve);
    bench.reserved(1);
    bench.service.drain(60_000, bench.now);
    bench.service.invite(issue(reserve), bench.now);
    assert_eq!(ended(&bench.take()), [false]);
}

#[test]
fn a_reserve_that_claims_to_be_another_supernode_gets_no_invitation() {
    let reserve = secret(5);
    let mut bench = inviter(reserve.public());
    bench.service.invite(issue(reserve.public()), bench.now);
    bench.take();
    let client = ClientRef(7);
    bench.service.handle_opened(client, reserve.public().0, Some(ip(200)), true, bench.now);
    bench.service.handle_frame(client, crate::service::greeting(&secret(6), bench.now), bench.now);
    let commands = bench.take();
    assert_eq!(ended(&commands), [false]);
    assert!(commands.contains(&Command::Close(client)));
}

// ---- both ends ----------------------------------------------------------------------------------------------------

#[test]
fn two_services_agree_whatever_the_reserve_takes_to_decide() {
    for decides_after_ms in [0, 20_000, 50_000, 200_000] {
        let (bidder, guest) = (own_secret(), secret(5));
        let mut inviting = inviter(guest.public());
        let now = inviting.now;
        let mut config = Config::new(guest.public(), "test".into());
        config.roles = Roles::default();
        let mut standby = Service::new(config, 2, now);
        inviting.service.invite(issue(guest.public()), now);
        inviting.take();
        let (here, there) = (ClientRef(7), ClientRef(1));
        inviting.service.handle_opened(here, guest.public().0, Some(ip(200)), true, now);
        standby.handle_opened(there, bidder.public().0, Some(ip(1)), false, now);
        let (mut clock, mut asked_ms, mut heard) = (now, None, Vec::new());
        for _ in 0..90 {
            exchange(&mut inviting, &mut standby, (here, there), clock, &mut asked_ms, &mut heard);
            let decided = asked_ms.is_some_and(|at_ms| clock.mono_ms >= at_ms + decides_after_ms);
            if decided {
                standby.answer_invitation(bidder.public(), true, clock);
                exchange(&mut inviting, &mut standby, (here, there), clock, &mut asked_ms, &mut heard);
            }
            clock = clock.plus_ms(1_000);
            inviting.now = clock;
            inviting.service.handle_timeout(clock);
            standby.handle_timeout(clock);
        }
        assert_eq!(heard, [decides_after_ms < 55_000], "after {decides_after_ms} ms");
    }
}

/// Carries frames between the two until nobody says anything more.
fn exchange(
    inviting: &mut Bench,
    standby: &mut Service,
    (here, there): (ClientRef, ClientRef),
    now: Now,
    asked_ms: &mut Option<u64>,
    heard: &mut Vec<bool>,
) {
    loop {
        let mut quiet = true;
        for command in inviting.take() {
            heard.extend(ended(std::slice::from_ref(&command)));
            match command {
                Command::Send { client, frame } if client == here => {
                    quiet = false;
                    standby.handle_frame(there, frame, now);
                }
                Command::Close(client) if client == here => standby.handle_closed(there, now),
                _ => {}
            }
        }
        while let Some(command) = standby.poll_command() {
            match command {
                Command::Send { client, frame } if client == there => {
                    quiet = false;
                    inviting.service.handle_frame(here, frame, now);
                }
                Command::Close(client) if client == there => inviting.service.handle_closed(here, now),
                Command::Invited { .. } => *asked_ms = Some(now.mono_ms),
                other => assert!(matches!(other, Command::Send { .. }), "{other:?} in standby"),
            }
        }
        if quiet {
            return;
        }
    }
}
