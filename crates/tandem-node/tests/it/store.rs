//! The store on disk: refused when newer or damaged, bounded, and for one process at a time.

use std::fs;

use rusqlite::Connection;
use tandem_api::{CallDirection, CallResult, ContactChange, EndReason, NewContact};
use tandem_node::config::Config;
use tandem_node::handle::NodeConfig;
use tandem_node::installation::{self, StartError};
use tandem_node::platform::{DataLock, LockError, paths};
use tandem_node::store::{
    BLOCKS_MAX, CALLS_MAX, ContactError, QUALITIES_MAX, SCHEMA, Store, StoreError, StoredCall, StrangerError,
    SupernodeQuality,
};
use tandem_proto::identity::Address;
use tandem_proto::ids::{AccountKey, ServiceKey};
use tandem_proto::wire::Signed;

fn address(n: u8) -> String {
    Address(AccountKey([n; 32])).to_string()
}

fn new_contact(n: u8, name: &str) -> NewContact {
    NewContact { address: address(n), name: name.to_owned(), note: String::new() }
}

fn node_config(data: &std::path::Path) -> NodeConfig {
    NodeConfig {
        config: Config::default(),
        data: data.to_owned(),
        passphrase: None,
        serve_api: false,
        terms: tandem_node::messages::TERMS,
    }
}

#[test]
fn a_newer_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    drop(Store::open(&path, 1).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", SCHEMA + 1).unwrap();
    let before = fs::read(&path).unwrap();
    let error = Store::open(&path, 1).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found, .. } if found == SCHEMA + 1));
    assert_eq!(error.problem().code, "T1004");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn something_else_is_not_taken_for_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    fs::write(&path, vec![b'x'; 8192]).unwrap();
    assert!(matches!(Store::open(&path, 1), Err(StoreError::Broken { .. })));
    assert_eq!(fs::read(&path).unwrap(), vec![b'x'; 8192]);
}

#[test]
fn one_process_holds_a_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = installation::open(&node_config(&data)).unwrap();
    assert!(first.fresh);
    let Err(StartError::Lock(LockError::Held { pid, .. })) = installation::open(&node_config(&data)) else {
        panic!("the second one got in")
    };
    assert_eq!(pid, std::process::id().to_string());
    let address = first.keys.address();
    drop(first);
    let second = installation::open(&node_config(&data)).unwrap();
    assert!(!second.fresh);
    assert_eq!(second.keys.address(), address);
    assert!(DataLock::take(&data).is_err());
}

#[test]
#[cfg(unix)]
fn a_folder_open_to_others_is_refused_once_something_is_in_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    drop(installation::open(&node_config(&data)).unwrap());
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(data.clone()), 0o700);
    assert_eq!(mode(data.join(paths::STORE)), 0o600);
    fs::set_permissions(&data, fs::Permissions::from_mode(0o750)).unwrap();
    let error = installation::open(&node_config(&data)).unwrap_err();
    assert_eq!(error.problem().code, "T1002");
}

#[test]
fn contacts_are_named_once_and_found_by_name_or_address() {
    let store = Store::in_memory().unwrap();
    store.add_contact(&new_contact(1, " Bob "), 5).unwrap();
    assert!(matches!(store.add_contact(&new_contact(2, "bob"), 6), Err(ContactError::Exists { .. })));
    assert!(matches!(store.add_contact(&new_contact(1, "Rob"), 6), Err(ContactError::Exists { .. })));
    for name in ["", "  ", "a\nb", "tandem:x", &"x".repeat(65)] {
        assert!(
            matches!(store.add_contact(&new_contact(3, name), 6), Err(ContactError::Name { .. })),
            "{name}"
        );
    }
    let bob = AccountKey([1; 32]);
    assert_eq!(store.resolve("BOB").unwrap(), bob);
    assert_eq!(store.resolve(&address(1)).unwrap(), bob);
    assert_eq!(store.resolve(&address(9)).unwrap(), AccountKey([9; 32]));
    assert!(matches!(store.resolve("tandem:nonsense"), Err(ContactError::Address { .. })));
    assert!(matches!(store.resolve("Carol"), Err(ContactError::Unknown { .. })));

    let change = ContactChange { blocked: Some(true), ..ContactChange::default() };
    assert!(store.change_contact("Bob", &change, 3).unwrap().blocked);
    assert!(store.contact(bob).unwrap().unwrap().blocked);
    store.remember_homes(bob, b"record").unwrap();
    assert_eq!(store.remembered_homes(bob).unwrap(), Some(b"record".to_vec()));
    assert_eq!(store.remove_contact("Bob").unwrap(), bob);
    assert!(matches!(store.remove_contact(&address(1)), Err(ContactError::Unknown { .. })));
    assert!(store.contacts().unwrap().is_empty());
}

#[test]
fn blocking_again_keeps_the_first_time_even_when_no_more_can_be_blocked() {
    let store = Store::in_memory().unwrap();
    let account = |n: u64| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        AccountKey(key)
    };
    for n in 0..BLOCKS_MAX {
        assert_eq!(store.block(account(n), 100 + n).unwrap(), 100 + n);
    }
    assert!(matches!(store.block(account(BLOCKS_MAX), 1), Err(StrangerError::BlocksFull)));
    assert_eq!(store.block(account(7), 999_999).unwrap(), 107);
    assert_eq!(store.blocks().unwrap().len() as u64, BLOCKS_MAX);
    assert!(store.unblock(account(7)).unwrap());
    assert_eq!(store.block(account(BLOCKS_MAX), 1).unwrap(), 1);
}

#[test]
fn the_history_is_bounded_and_newest_first() {
    let store = Store::in_memory().unwrap();
    let call = |n: u64| StoredCall {
        id: format!("{n:08}"),
        account: AccountKey([3; 32]),
        direction: CallDirection::Incoming,
        started_unix_ms: n,
        answered_unix_ms: None,
        ended_unix_ms: n + 1,
        reason: EndReason::Declined,
        result: CallResult { why: "declined".to_owned(), ..CallResult::default() },
        path_changes: Vec::new(),
    };
    for n in 0..CALLS_MAX + 5 {
        store.add_call(&call(n)).unwrap();
    }
    assert_eq!(store.calls(1).unwrap(), [call(CALLS_MAX + 4)]);
    assert_eq!(store.calls(u32::MAX).unwrap().len() as u64, CALLS_MAX);
}

#[test]
fn supernodes_that_answer_come_first() {
    let store = Store::in_memory().unwrap();
    let signed = Signed { payload: vec![1, 2], signature: vec![3; 64] };
    for n in 1..=3 {
        store.remember_supernode(ServiceKey([n; 32]), &signed, u32::from(n), 10).unwrap();
    }
    let quality = |n: u8, quality: u8| SupernodeQuality {
        service: ServiceKey([n; 32]),
        quality,
        latency_class: Some(2),
        times: 3,
        held_ms: 1 << 40,
        lost: 1,
        failed: 2,
        omitted: 0,
        lied: 1,
        lied_unix_ms: Some(15),
        measured_unix_ms: 20,
    };
    store.remember_qualities(&[quality(2, 200), quality(1, 30)]).unwrap();
    store.remember_supernode(ServiceKey([2; 32]), &signed, 7, 40).unwrap();
    let known = store.supernodes(10).unwrap();
    let order: Vec<u8> = known.iter().map(|supernode| supernode.service.0[0]).collect();
    assert_eq!(order, [2, 3, 1]);
    assert_eq!(known[0].network, 7);
    assert_eq!(known[0].descriptor, signed);
    assert_eq!(store.supernodes_known().unwrap(), 3);
    assert_eq!(store.qualities(20).unwrap(), [quality(2, 200), quality(1, 30)]);
    assert!(store.qualities(21).unwrap().is_empty(), "what is older is forgotten");
    assert!(store.qualities(0).unwrap().is_empty());
    let many = |n: u64| {
        let mut service = [9; 32];
        service[..8].copy_from_slice(&n.to_be_bytes());
        SupernodeQuality { service: ServiceKey(service), measured_unix_ms: n, ..quality(9, 100) }
    };
    store.remember_qualities(&(0..QUALITIES_MAX + 5).map(many).collect::<Vec<_>>()).unwrap();
    let kept = store.qualities(0).unwrap();
    assert_eq!((kept.len() as u64, kept[0]), (QUALITIES_MAX, many(QUALITIES_MAX + 4)));
}

#[test]
fn small_values_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    Store::open(&path, 1).unwrap().set_setting("greeted", "yes").unwrap();
    assert_eq!(Store::open(&path, 1).unwrap().setting("greeted").unwrap().as_deref(), Some("yes"));
}
