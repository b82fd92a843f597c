use super::*;
use crate::config::{Caps, Config};

const NOW: Now = Now { mono_ms: 0, unix_ms: 1_795_392_000_000 };
const BOTH: Roles = Roles(Roles::DIRECTORY.0 | Roles::RELAY.0);
const ALL: [VolunteerRole; 2] = [VolunteerRole::Directory, VolunteerRole::Relay];

fn settings(directory: bool, relay: bool, accept_terms: Option<u32>) -> config::Volunteer {
    config::Volunteer { directory, relay, accept_terms, ..config::Config::default().volunteer }
}

fn nothing_set() -> config::Volunteer {
    Config::default().volunteer
}

fn open(store: &Store, terms: u32) -> Volunteering {
    Volunteering::new(store, &nothing_set(), terms, NOW).unwrap()
}

fn new(terms: u32, roles: &[VolunteerRole]) -> NewConsent {
    NewConsent { terms, roles: roles.to_vec() }
}

#[test]
fn nothing_is_agreed_to_by_itself() {
    let store = Store::in_memory().unwrap();
    let mut plain = open(&store, 1);
    assert_eq!((plain.consent(), plain.agreed_roles(), plain.is_steady()), (None, Roles::default(), false));
    assert_eq!(plain.problem(), None);
    let view = plain.view_at_rest();
    assert_eq!(
        (view.accepted, view.roles, view.suspended, view.state),
        (None, vec![], false, ServingState::Off)
    );
    // Neither other terms nor no role at all is consent.
    assert_eq!(plain.accept(&store, &new(2, &ALL), 1).unwrap_err().code, "T1204");
    assert_eq!(plain.accept(&store, &new(1, &[]), 1).unwrap_err().code, "T1311");
    assert_eq!(store.consents().unwrap(), []);
    plain.withdraw(&store, 1).unwrap();
    assert_eq!((plain.consent(), store.consents().unwrap()), (None, vec![]));
}

#[test]
fn consent_is_for_the_roles_named_and_lasts_over_restarts() {
    let store = Store::in_memory().unwrap();
    let mut node = open(&store, 1);
    assert!(node.take_change() && !node.take_change());
    node.accept(&store, &new(1, &[VolunteerRole::Relay]), 5).unwrap();
    assert!(node.take_change());
    assert_eq!(node.consent(), Some(Consent { terms_version: 1, roles: Roles::RELAY }));
    let again = open(&store, 1);
    assert_eq!(again.agreed_roles(), Roles::RELAY);
    assert!(!again.is_steady(), "it waits until it is needed");
    node.withdraw(&store, 9).unwrap();
    assert!(node.take_change());
    assert_eq!((node.consent(), open(&store, 1).consent()), (None, None));
    let consents = node.view_at_rest().consents;
    assert_eq!((consents[0].given_unix_ms, consents[0].withdrawn_unix_ms), (Some(5), Some(9)));
}

#[test]
fn newer_terms_suspend_until_they_are_accepted() {
    let store = Store::in_memory().unwrap();
    open(&store, 1).accept(&store, &new(1, &ALL), 5).unwrap();
    let mut node = open(&store, 2);
    assert_eq!(node.agreed_roles(), Roles::default());
    assert_eq!(
        node.consent(),
        Some(Consent { terms_version: 1, roles: BOTH }),
        "so that the election can say why"
    );
    assert_eq!(node.problem().unwrap().code, "T1207");
    assert!(node.view_at_rest().suspended);
    // For one of the roles: the other one is given up.
    node.accept(&store, &new(2, &[VolunteerRole::Directory]), 7).unwrap();
    assert_eq!((node.agreed_roles(), node.problem()), (Roles::DIRECTORY, None));
    // An older program than the one in which the owner agreed.
    assert_eq!(open(&store, 3).agreed_roles(), Roles::default());
    let older = open(&store, 1);
    assert_eq!(
        older.agreed_roles(),
        Roles::DIRECTORY,
        "the older terms were accepted too, and never taken back"
    );
}

#[test]
fn the_settings_may_agree_and_may_be_overruled_for_a_run() {
    let store = Store::in_memory().unwrap();
    let asks = settings(true, true, Some(1));
    let mut node = Volunteering::new(&store, &asks, 1, NOW).unwrap();
    assert!(node.is_steady());
    assert_eq!(node.agreed_roles(), BOTH);
    assert_eq!(node.view_at_rest().consents.len(), 2);
    assert_eq!(node.view_at_rest().consents[0].given_unix_ms, None);
    node.withdraw(&store, 9).unwrap();
    assert_eq!(node.consent(), None);
    assert_eq!(
        Volunteering::new(&store, &asks, 1, NOW).unwrap().agreed_roles(),
        BOTH,
        "until the next start"
    );

    // The terms changed, and the settings have not: it serves nobody. The person can agree by command, and it is as
    // steady as the settings want it.
    let mut node = Volunteering::new(&store, &asks, 2, NOW).unwrap();
    assert_eq!((node.agreed_roles(), node.is_steady()), (Roles::default(), true));
    assert_eq!(node.problem().unwrap().code, "T1207");
    node.accept(&store, &new(2, &ALL), 7).unwrap();
    assert_eq!((node.agreed_roles(), node.is_steady()), (BOTH, true));
    // By command the person may also want less than the settings.
    node.accept(&store, &new(2, &[VolunteerRole::Relay]), 8).unwrap();
    assert_eq!(node.agreed_roles(), Roles::RELAY);
}

#[test]
fn no_consent_and_no_cap_goes_beyond_the_policy() {
    let store = Store::in_memory().unwrap();
    let mut node = open(&store, 1);
    node.accept(&store, &new(1, &ALL), 5).unwrap();
    assert_eq!(node.agreed_roles(), BOTH);

    let policy = "[serving]\nroles = [\"directory\"]\ncalls = 3\ndirectory_bytes_per_month = 100\n";
    let mut under = settings(true, true, Some(1));
    under.policy = std::sync::Arc::new(crate::policy::parse(policy).unwrap());
    let mut node = Volunteering::new(&store, &under, 1, NOW).unwrap();
    assert_eq!(node.agreed_roles(), Roles::DIRECTORY, "what was agreed to before the policy came");
    let refused = node.accept(&store, &new(1, &ALL), 6).unwrap_err();
    assert_eq!(refused.code, "T2004", "{refused}");
    node.accept(&store, &new(1, &[VolunteerRole::Directory]), 7).unwrap();
    node.set_caps(&store, &CapsChange { calls: Some(9), devices: Some(9), ..CapsChange::default() }).unwrap();
    assert_eq!((node.caps().calls, node.caps().devices, node.caps().directory_bytes_per_month), (3, 9, 100));
    assert_eq!(node.election_caps(NOW.unix_ms).directory_bytes_a_month, Some(100));
}

#[test]
fn caps_set_by_command_hold_over_the_settings() {
    let store = Store::in_memory().unwrap();
    let mut node = open(&store, 1);
    assert_eq!(node.caps(), Caps::default());
    let change = CapsChange {
        calls: Some(3),
        relay_bytes_per_month: Some(5_000),
        hours: Some("18:00-23:00".to_owned()),
        ..CapsChange::default()
    };
    node.take_change();
    node.set_caps(&store, &change).unwrap();
    assert!(node.take_change());
    assert_eq!(node.caps(), Caps { calls: 3, bytes_per_month: 5_000, ..Caps::default() });
    node.set_caps(&store, &CapsChange { devices: Some(7), ..CapsChange::default() }).unwrap();
    let again = open(&store, 1);
    assert_eq!((again.caps().calls, again.caps().devices), (3, 7));
    let election = again.election_caps(NOW.unix_ms);
    assert_eq!(election.relay_bytes_a_month, Some(5_000));
    let hours = election.hours.unwrap();
    assert_eq!((hours.from_min, hours.until_min), (1_080, 1_380));
    assert_eq!(again.view_at_rest().caps.hours.as_deref(), Some("18:00-23:00"));

    let wrong = CapsChange { hours: Some("late".to_owned()), devices: Some(1), ..CapsChange::default() };
    assert_eq!(node.set_caps(&store, &wrong).unwrap_err().code, "T1311");
    assert_eq!(node.caps().devices, 7, "nothing has changed");
    node.set_caps(&store, &CapsChange { hours: Some("always".to_owned()), ..CapsChange::default() }).unwrap();
    assert_eq!(node.election_caps(NOW.unix_ms).hours, None);
    node.set_caps(&store, &CapsChange { reset: true, ..CapsChange::default() }).unwrap();
    assert_eq!(node.caps(), Caps::default());
}

#[test]
fn the_ledger_is_written_and_read_again() {
    let store = Store::in_memory().unwrap();
    let mut node = open(&store, 1);
    node.write_when_due(&store, NOW.plus_ms(120_000));
    assert_eq!(
        ledger(&store, 30, NOW.unix_ms).unwrap().lines,
        [],
        "nothing is written of a node that serves nobody"
    );
    let totals = Totals { directory_bytes: 10, relay_bytes: 20, devices: 2, calls: 1, ..Totals::default() };
    node.count(totals, BOTH, NOW.plus_ms(1_000));
    node.write_when_due(&store, NOW.plus_ms(1_000));
    assert_eq!(ledger(&store, 30, NOW.unix_ms).unwrap().lines, [], "not each second");
    node.write(&store, NOW.plus_ms(1_000));
    node.write(&store, NOW.plus_ms(2_000));
    let lines = ledger(&store, 1, NOW.unix_ms).unwrap().lines;
    assert_eq!(lines.len(), 2);
    let relay = lines.iter().find(|line| line.role == VolunteerRole::Relay).unwrap();
    assert_eq!((&*relay.day, relay.bytes, relay.calls, relay.served_ms), ("2026-11-23", 20, 1, 1_000));
    assert_eq!(open(&store, 1).bytes_this_month(Role::Relay), 20);
    assert_eq!(ledger(&store, 1, NOW.unix_ms + 86_400_000).unwrap().lines, [], "yesterday");
    assert_eq!(ledger(&store, u64::MAX, NOW.unix_ms + 86_400_000).unwrap().lines.len(), 2);
}

#[test]
fn what_is_missing_everywhere_is_said_once() {
    let missing = |role| match role {
        Role::Directory => vec![Missing::OnBattery, Missing::Unmeasured],
        Role::Relay => vec![Missing::OnBattery, Missing::MonthlyCap { bytes: 5 }],
    };
    let views = missing_views(missing, BOTH);
    let said: Vec<_> = views.iter().map(|view| (view.role, &*view.what)).collect();
    assert_eq!(
        said,
        [
            (None, "on_battery"),
            (Some(VolunteerRole::Directory), "unmeasured"),
            (Some(VolunteerRole::Relay), "monthly_cap"),
        ]
    );
    assert_eq!(missing_views(missing, Roles::RELAY).len(), 2);
    assert_eq!(missing_views(missing, Roles::default()), []);
}
