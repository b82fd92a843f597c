//! What a home does when an account revokes one of its devices.

use tandem_core::service::{ClientRef, Command};
use tandem_proto::identity::AccountSecret;
use tandem_proto::names::FailureCode;
use tandem_proto::record::ReachRecord;
use tandem_proto::signed::{DeviceEntry, DeviceSet};
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{DeviceSetNotice, GrantRequest, Reserve};

use crate::service::{Bench, account_secret, device_secret, failure, record};
use crate::world::UNIX_MS;

/// The account's set of a higher epoch, which names device 1 only.
fn without_two(epoch: u64) -> DeviceSet {
    let entry = DeviceEntry { device: device_secret(1).public(), serial: 1 };
    DeviceSet::issue(&account_secret(), epoch, &[entry], UNIX_MS / 1_000 + 3_600).unwrap()
}

fn notice(set: &DeviceSet) -> Body {
    Body::DeviceSetNotice(DeviceSetNotice { device_set: Some(set.signed().clone()) })
}

/// A home of both devices, where both have published.
fn bench() -> (Bench, ClientRef, ClientRef) {
    let mut bench = Bench::new(|_| {});
    let (one, two) = (bench.reserved(1), bench.reserved(2));
    bench.publish(one, &record(1, 1, 100));
    bench.publish(two, &record(1, 2, 100));
    bench.take();
    (bench, one, two)
}

fn refused(bench: &mut Bench, client: u64, body: Body) -> bool {
    let client = bench.device(client);
    let answer = bench.ask(client, body);
    let shown = bench.sent(client);
    failure(answer) == FailureCode::Revoked
        && shown.iter().any(|body| matches!(body, Body::DeviceSetNotice(_)))
}

#[test]
fn a_revoked_device_hears_why_is_cut_off_and_gets_nothing_more() {
    let (mut bench, one, two) = bench();
    let set = without_two(2);
    bench.publish(one, &ReachRecord::new(set.clone()));
    let said = bench.take();
    let at = |wanted: &dyn Fn(&Command) -> bool| said.iter().position(wanted);
    let told = at(
        &|command| matches!(command, Command::Send { client, frame } if *client == two && frame.body == Some(notice(&set))),
    );
    let closed = at(&|command| *command == Command::Close(two));
    assert!(told.is_some() && told < closed, "the reason goes before the end: {said:?}");
    let to_one = |command: &Command| {
        matches!(command, Command::Send { client, frame }
            if *client == one && matches!(frame.body, Some(Body::DeviceSetNotice(_))))
    };
    assert!(at(&to_one).is_none(), "it published the set itself");
    assert!(!bench.service.is_reserved(device_secret(2).public()));
    bench.wait(6_000);
    assert!(bench.take().contains(&Command::Expel(device_secret(2).public())));

    let grant = Body::GrantRequest(GrantRequest { call_tag: vec![7; 16] });
    let publish = Body::Publish(tandem_proto::wire::Publish { record: Some(record(1, 2, 200).to_wire()) });
    assert!(refused(&mut bench, 2, Body::Reserve(Reserve::default())));
    assert!(refused(&mut bench, 2, grant));
    assert!(refused(&mut bench, 2, publish));
    assert!(bench.service.is_reserved(device_secret(1).public()), "the other device stays");
}

#[test]
fn a_stranger_may_bring_the_news_and_the_other_device_hears_it() {
    let (mut bench, one, two) = bench();
    let stranger = bench.device(9);
    let set = without_two(2);
    assert!(matches!(bench.ask(stranger, notice(&set)), Some(Body::DeviceSetNoted(_))));
    let said = bench.take();
    for client in [one, two] {
        let told = |command: &Command| matches!(command, Command::Send { client: to, frame } if *to == client && frame.body == Some(notice(&set)));
        assert!(said.iter().any(told), "{said:?}");
    }
    assert!(said.contains(&Command::Close(two)) && !said.contains(&Command::Close(one)));
}

#[test]
fn a_device_that_was_away_is_refused_when_it_comes_back() {
    let (mut bench, one, two) = bench();
    bench.service.handle_closed(two, bench.now);
    bench.publish(one, &ReachRecord::new(without_two(2)));
    bench.take();
    assert!(refused(&mut bench, 2, Body::Reserve(Reserve::default())));
    bench.wait(25 * 3_600_000);
    bench.reserved(2);
}

#[test]
fn a_set_played_back_changes_nothing_and_is_answered_with_the_newest() {
    let (mut bench, one, _) = bench();
    let (old, newest) = (record(1, 1, 300), without_two(5));
    let stranger = bench.device(9);
    bench.ask(stranger, notice(&newest));
    bench.take();
    bench.ask(stranger, notice(old.device_set()));
    assert!(bench.take().iter().all(|command| !matches!(command, Command::Close(_))));
    // The device that publishes its old set learns of the newest.
    let older = bench.publish(one, &ReachRecord::new(old.device_set().clone()));
    assert_eq!(failure(older), FailureCode::RecordOlder);
    assert!(bench.sent(one).contains(&notice(&newest)));
}

#[test]
fn nobody_throws_out_another_accounts_device() {
    let (mut bench, _, two) = bench();
    // A set of somebody else names the device, the next one does not.
    let thief = AccountSecret::from_seed(&[66; 32]);
    let stranger = bench.device(9);
    for (epoch, entries) in [(1, vec![2, 9]), (2, vec![9])] {
        let entries: Vec<DeviceEntry> = entries
            .into_iter()
            .map(|device| DeviceEntry { device: device_secret(device).public(), serial: device })
            .collect();
        let set = DeviceSet::issue(&thief, epoch, &entries, UNIX_MS / 1_000 + 3_600).unwrap();
        bench.ask(stranger, notice(&set));
        bench.ask(stranger, Body::Reserve(Reserve::default()));
        bench.publish(stranger, &ReachRecord::new(set));
    }
    assert!(!bench.take().contains(&Command::Close(two)));
    assert!(bench.service.is_reserved(device_secret(2).public()));
    assert_eq!(bench.service.figures().revoked, 0);
}

#[test]
fn what_is_remembered_of_revoked_devices_is_bounded() {
    let mut bench = Bench::new(|_| {});
    for n in 0..1_200u64 {
        let account = AccountSecret::from_seed(&[(n % 251) as u8; 32]);
        let device = device_secret(100 + n);
        let end_s = UNIX_MS / 1_000 + 3_600;
        let entry = DeviceEntry { device: device.public(), serial: 1 };
        let client = bench.reserved(100 + n);
        let with = DeviceSet::issue(&account, 2 * n + 1, &[entry], end_s).unwrap();
        bench.publish(client, &ReachRecord::new(with));
        let (put, _) = bench.put();
        bench.service.handle_stored(put, 1, bench.now);
        let without = DeviceSet::issue(&account, 2 * n + 2, &[], end_s).unwrap();
        bench.ask(client, notice(&without));
        bench.take();
        bench.wait(1_000);
    }
    assert_eq!(bench.service.figures().revoked, 1_024);
}

#[test]
fn rubbish_for_a_set_is_refused() {
    let (mut bench, _, two) = bench();
    let mut forged = without_two(2).signed().clone();
    forged.signature[1] ^= 1;
    for (signed, code) in [(None, FailureCode::Malformed), (Some(forged), FailureCode::RecordRefused)] {
        let stranger = bench.device(9);
        let answer = bench.ask(stranger, Body::DeviceSetNotice(DeviceSetNotice { device_set: signed }));
        assert_eq!(failure(answer), code);
        bench.service.handle_closed(stranger, bench.now);
    }
    assert!(!bench.take().contains(&Command::Close(two)));
}
