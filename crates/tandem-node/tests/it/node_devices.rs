//! Several devices of one account, as whole nodes: added by link and by the words; all ring, one answers, the others say
//! where; a revoked one is out.

use std::time::{Duration, Instant};

use tandem_api::{
    AnswerRequest, CallRequest, CallStep, DeviceChange, DeviceView, Devices, EndReason, Identity, NewDevice,
    NodeEvent, Problem,
};
use tandem_node::config::Answer;
use tandem_node::handle::Request;
use tandem_node::installation::unix_ms;
use tandem_node::keys::{self, Keys, Papers};
use tandem_proto::signed::DeviceEntry;
use tempfile::TempDir;

use crate::node::{
    Ongoing, Plan, TestNode, call, node_config, speaking_to, start, start_in, stop, supernodes,
};

const WITHIN: Duration = Duration::from_secs(60);

fn plan(network: u8, supernodes: &[TestNode], answer: Answer) -> Plan<'_> {
    Plan { network, bootstrap: &supernodes[0].ready.listen, volunteer: false, answer }
}

async fn leaf(network: u8, supernodes: &[TestNode]) -> TestNode {
    start(plan(network, supernodes, Answer::Ring)).await
}

async fn devices(node: &TestNode) -> Devices {
    node.handle.ask(Request::Devices).await.unwrap()
}

async fn identity(node: &TestNode) -> Identity {
    node.handle.ask(Request::Identity).await.unwrap()
}

async fn add(holder: &TestNode, link: &str, label: &str) -> Result<DeviceView, Problem> {
    let new = NewDevice { link: link.to_owned(), label: label.to_owned() };
    holder.handle.ask(|reply| Request::AddDevice(new, reply)).await
}

async fn revoke(holder: &TestNode, who: &str) -> Result<DeviceView, Problem> {
    let who = who.to_owned();
    holder.handle.ask(|reply| Request::RevokeDevice { who, reply }).await
}

async fn rename(holder: &TestNode, who: &str, label: &str) -> Result<DeviceView, Problem> {
    let (who, change) = (who.to_owned(), DeviceChange { label: label.to_owned() });
    holder.handle.ask(|reply| Request::RenameDevice { who, change, reply }).await
}

/// A second device of the holder's account, added by link, running.
async fn add_by_link(holder: &TestNode, network: u8, label: &str, supernodes: &[TestNode]) -> TestNode {
    let folder = tempfile::tempdir().unwrap();
    let config = node_config(&folder, plan(network, supernodes, Answer::Ring));
    let (shown, link) = tokio::sync::oneshot::channel();
    let joining =
        tokio::spawn(
            async move { tandem_node::join(config, |offer| shown.send(offer.clone()).unwrap()).await },
        );
    let offer = tokio::time::timeout(WITHIN, link).await.expect("a link in time").unwrap();
    let added = add(holder, &offer.link, label).await.unwrap();
    assert_eq!((&*added.label, &added.words, &added.key), (label, &offer.words, &offer.key));
    let joined = tokio::time::timeout(WITHIN, joining).await.expect("joined in time").unwrap().unwrap();
    assert!(joined.keys.entropy.is_none(), "the account key stays where it is");
    assert_eq!(joined.keys.address().to_string(), holder.ready.address);
    start_in(folder, plan(network, supernodes, Answer::Ring)).await
}

/// Waits until something is so; how long it took.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !is_so().await {
        assert!(begin.elapsed() < WITHIN, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    begin.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_added_by_link_rings_too_and_the_other_says_where_it_was_answered() {
    let supernodes = supernodes(90..=92).await;
    let alice = leaf(93, &supernodes).await;
    rename(&alice, &alice.ready.device[..20], "Laptop").await.unwrap();
    let phone = add_by_link(&alice, 94, "Phone", &supernodes).await;
    let bob = leaf(95, &supernodes).await;

    let list = devices(&alice).await;
    let named: Vec<(&str, bool, Option<bool>)> =
        list.devices.iter().map(|view| (&*view.label, view.this, view.holds_account_key)).collect();
    assert_eq!(named, [("Laptop", true, Some(true)), ("Phone", false, Some(false))]);
    assert!(list.can_change);
    let list = devices(&phone).await;
    let named: Vec<(&str, bool, Option<bool>)> =
        list.devices.iter().map(|view| (&*view.label, view.this, view.holds_account_key)).collect();
    assert_eq!(named, [("Phone", true, Some(false)), ("Laptop", false, None)]);
    until("each sees the other", async || {
        let (one, other) = (devices(&alice).await, devices(&phone).await);
        one.devices.iter().chain(&other.devices).all(|view| view.reachable == Some(true))
    })
    .await;
    // Only a device that holds the account key changes anything.
    assert_eq!(revoke(&phone, "Laptop").await.unwrap_err().code, "T1110");

    let (at_laptop, at_phone) = (alice.handle.events(), phone.handle.events());
    let mut placed = Ongoing::place(&bob, speaking_to(&alice)).await;
    let (mut laptop, mut rung) = tokio::join!(Ongoing::incoming(at_laptop), Ongoing::incoming(at_phone));
    phone
        .handle
        .ask(|reply| Request::Answer { call: String::new(), answer: AnswerRequest::default(), reply })
        .await
        .unwrap();
    let (reason, result) = laptop.ended().await;
    assert_eq!((reason, result.answered_by.as_deref()), (EndReason::AnsweredElsewhere, Some("Phone")));
    assert_eq!(result.why, "The call was answered on \"Phone\".");
    tokio::join!(placed.connected(), rung.connected());
    placed.hang_up(&bob).await;
    tokio::join!(placed.ended(), rung.ended());

    let (at_laptop, at_phone) = (alice.handle.events(), phone.handle.events());
    let mut placed = Ongoing::place(&bob, speaking_to(&alice)).await;
    let (laptop, mut rung) = tokio::join!(Ongoing::incoming(at_laptop), Ongoing::incoming(at_phone));
    let call = laptop.call.clone();
    alice.handle.ask(|reply| Request::Decline { call, reply }).await.unwrap();
    let ((there, _), (here, declined)) = tokio::join!(placed.ended(), rung.ended());
    assert_eq!((there, here), (EndReason::Declined, EndReason::Declined));
    assert_eq!(declined.answered_by.as_deref(), Some("Laptop"));

    // A new label reaches the device itself.
    rename(&alice, "phone", "Pocket").await.unwrap();
    assert_eq!(identity(&phone).await.label, "Pocket");
    let rings = phone.handle.events();
    let mut placed = Ongoing::place(&bob, speaking_to(&alice)).await;
    let mut rung = Ongoing::incoming(rings).await;
    placed.hang_up(&bob).await;
    tokio::join!(placed.ended(), rung.ended());
    stop(supernodes.into_iter().chain([alice, phone, bob])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_device_is_out_for_itself_its_homes_and_its_peers() {
    let supernodes = supernodes(96..=98).await;
    let alice = leaf(99, &supernodes).await;
    let phone = add_by_link(&alice, 100, "Phone", &supernodes).await;
    let bob = start(plan(101, &supernodes, Answer::Echo)).await;
    let request = || CallRequest { for_ms: Some(500), ..speaking_to(&bob) };
    let (_, before) = call(&phone, request()).await;
    assert!(before.connected, "{before:?}");

    // It is in a call when it is revoked.
    let mut talking = Ongoing::place(&phone, speaking_to(&bob)).await;
    talking.connected().await;
    let notices = phone.handle.events();
    let begin = Instant::now();
    let gone = revoke(&alice, "Phone").await.unwrap();
    assert_eq!(gone.key, phone.ready.device);
    let published = begin.elapsed();
    until("the revoked device knows", async || identity(&phone).await.revoked).await;
    let knows = begin.elapsed();
    talking.ended().await;
    let call_over = begin.elapsed();
    let told = told_of_revocation(notices).await;
    assert!(told, "its person is told");
    until("its homes have let it go", async || {
        let status = phone.handle.ask(Request::Status).await.unwrap();
        status.home_details.is_empty() && status.problems.iter().any(|problem| problem.code == "T1707")
    })
    .await;
    let homeless = begin.elapsed();

    let refused = phone.handle.ask(|reply| Request::PlaceCall(request(), reply)).await.unwrap_err();
    assert_eq!(refused.code, "T1707");
    // The other end may hear of it a moment later.
    until("its peer is in no call with it", async || {
        let calls = bob.handle.ask(|reply| Request::Calls { limit: 20, reply }).await.unwrap();
        calls.iter().all(|call| call.ended_unix_ms.is_some())
    })
    .await;
    let rings = alice.handle.events();
    let mut placed = Ongoing::place(&bob, speaking_to(&alice)).await;
    let mut rung = Ongoing::incoming(rings).await;
    let found = placed
        .seen
        .iter()
        .find_map(|step| if let CallStep::Found { devices, .. } = step { Some(*devices) } else { None });
    assert!(found.is_none_or(|devices| devices == 1), "{found:?}");
    rung.hang_up(&alice).await;
    tokio::join!(placed.ended(), rung.ended());
    assert_eq!(devices(&alice).await.devices.len(), 1);
    println!(
        "revoked: signed and sent after {published:.1?}, known to the device after {knows:.1?}, its call over after \
         {call_over:.1?}, its homes gone after {homeless:.1?}"
    );

    // It remembers over a restart, and the keys do not come back.
    let folder = phone.folder;
    phone.running.shutdown(Duration::from_millis(300)).await;
    let keys = keys::open(&folder.path().join("data"), None, unix_ms()).unwrap();
    assert!(keys.revoked.is_some());
    stop(supernodes.into_iter().chain([alice, bob])).await;
}

async fn told_of_revocation(mut events: tokio::sync::broadcast::Receiver<NodeEvent>) -> bool {
    let told = async {
        while let Ok(event) = events.recv().await {
            if matches!(event, NodeEvent::Notice { problem } if problem.code == "T1707") {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(WITHIN, told).await.unwrap_or(false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_words_add_a_device_and_keep_the_others() {
    let supernodes = supernodes(102..=104).await;
    let alice = leaf(105, &supernodes).await;
    let words = {
        let keys = keys::open(&alice.folder.path().join("data"), None, unix_ms()).unwrap();
        keys.entropy.unwrap().words().to_string()
    };
    // The directory has her first device before the second looks.
    let bob = leaf(112, &supernodes).await;
    let rings = alice.handle.events();
    let mut placed = Ongoing::place(&bob, speaking_to(&alice)).await;
    let mut rung = Ongoing::incoming(rings).await;
    placed.hang_up(&bob).await;
    tokio::join!(placed.ended(), rung.ended());

    let second = restored(&words, 106, &supernodes).await;
    assert_eq!(identity(&second).await.devices, 2);
    until("the first hears of the second", async || identity(&alice).await.devices == 2).await;
    assert!(!identity(&alice).await.revoked);
    assert_eq!(identity(&second).await.address, alice.ready.address);
    let label = rename(&second, &alice.ready.device, "First").await.unwrap().label;
    assert_eq!(label, "First");
    assert_eq!(identity(&alice).await.label, "First");
    let (at_first, at_second) = (alice.handle.events(), second.handle.events());
    let mut placed = Ongoing::place(&bob, speaking_to(&alice)).await;
    let (mut one, mut other) = tokio::join!(Ongoing::incoming(at_first), Ongoing::incoming(at_second));
    placed.hang_up(&bob).await;
    tokio::join!(placed.ended(), one.ended(), other.ended());
    stop(supernodes.into_iter().chain([alice, second, bob])).await;
}

async fn restored(words: &str, network: u8, supernodes: &[TestNode]) -> TestNode {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    drop(tandem_node::installation::prepare_folder(&data).unwrap());
    let entropy = tandem_proto::identity::Entropy::from_words(words).unwrap();
    let keys = keys::restore(&data, entropy, "Second", None, unix_ms()).unwrap();
    assert!(keys.restoring);
    let node = start_in(folder, plan(network, supernodes, Answer::Ring)).await;
    until("it is restored", async || !identity(&node).await.restoring).await;
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_is_good_once_and_a_wrong_one_for_nothing() {
    let supernodes = supernodes(107..=109).await;
    let alice = leaf(110, &supernodes).await;
    assert_eq!(add(&alice, "tandem-device:nonsense", "X").await.unwrap_err().code, "T1703");
    let folder = tempfile::tempdir().unwrap();
    let config = node_config(&folder, plan(111, &supernodes, Answer::Ring));
    let (shown, link) = tokio::sync::oneshot::channel();
    let joining =
        tokio::spawn(
            async move { tandem_node::join(config, |offer| shown.send(offer.clone()).unwrap()).await },
        );
    let offer = tokio::time::timeout(WITHIN, link).await.expect("a link in time").unwrap();
    let link: tandem_proto::identity::DeviceLink = offer.link.parse().unwrap();
    let forged = tandem_proto::identity::DeviceLink { secret: [0; 16], ..link };
    assert_eq!(add(&alice, &forged.to_string(), "X").await.unwrap_err().code, "T1705");
    assert_eq!(devices(&alice).await.devices.len(), 1, "nothing changed");
    add(&alice, &offer.link, "X").await.unwrap();
    tokio::time::timeout(WITHIN, joining).await.expect("joined in time").unwrap().unwrap();
    assert_eq!(add(&alice, &offer.link, "Y").await.unwrap_err().code, "T1704");
    stop(supernodes.into_iter().chain([alice])).await;
}

const DAY: u64 = 86_400_000;

fn keys_of(folder: &TempDir) -> Keys {
    keys::open(&folder.path().join("data"), None, unix_ms()).unwrap()
}

fn words_of(node: &TestNode) -> String {
    keys_of(&node.folder).entropy.unwrap().words().to_string()
}

/// Ends a node; its folder stays.
async fn pause(node: TestNode) -> TempDir {
    node.running.shutdown(Duration::from_millis(300)).await;
    node.folder
}

/// Signs a certificate for a device as if some days ago, and writes it there. What its set must name.
fn age(folder: &TempDir, label: &str, days: u64) -> DeviceEntry {
    let mut keys = keys_of(folder);
    let own = keys.device.public();
    let papers = keys.sign_device(&keys.device_set, own, label, unix_ms() - days * DAY).unwrap();
    let serial = papers.certificate.serial();
    keys.take_papers(&folder.path().join("data"), papers).unwrap();
    DeviceEntry { device: own, serial }
}

/// Has a folder's set name these devices by these serials.
fn rewrite(folder: &TempDir, entries: &[DeviceEntry]) {
    let mut keys = keys_of(folder);
    let named = |entry: &DeviceEntry| entries.iter().find(|new| new.device == entry.device).copied();
    let devices: Vec<DeviceEntry> =
        keys.device_set.devices().iter().map(|entry| named(entry).unwrap_or(*entry)).collect();
    let device_set = keys.sign_set(&keys.device_set, &devices, unix_ms()).unwrap();
    let certificate = keys.certificate.clone();
    keys.take_papers(&folder.path().join("data"), Papers { certificate, device_set }).unwrap();
}

async fn keys_named(node: &TestNode) -> Vec<String> {
    let mut named: Vec<String> = devices(node).await.devices.into_iter().map(|view| view.key).collect();
    named.sort();
    named
}

/// Two holders of the words were away, one with papers near their end and one with papers that ran out: what was revoked
/// and added meanwhile stays so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_was_away_undoes_nothing() {
    let supernodes = supernodes(113..=115).await;
    let alice = leaf(116, &supernodes).await;
    let words = words_of(&alice);
    let near = restored(&words, 117, &supernodes).await;
    let over = restored(&words, 118, &supernodes).await;
    until("the first knows all", async || identity(&alice).await.devices == 3).await;
    let phone = add_by_link(&alice, 119, "Phone", &supernodes).await;
    let (alice, near, over) = (pause(alice).await, pause(near).await, pause(over).await);
    // No serial may be there twice.
    age(&over, "Over", 401);
    let entries = [age(&near, "Near", 300), age(&over, "Over", 400)];
    assert!(keys_of(&over).lapsed && !keys_of(&near).lapsed);
    rewrite(&alice, &entries);

    let alice = start_in(alice, plan(116, &supernodes, Answer::Ring)).await;
    revoke(&alice, "Phone").await.unwrap();
    until("the phone is out", async || identity(&phone).await.revoked).await;
    let added = add_by_link(&alice, 120, "Tablet", &supernodes).await;
    let expected = keys_named(&alice).await;
    assert_eq!(expected.len(), 4);

    for (folder, network) in [(near, 117), (over, 118)] {
        let before = keys_of(&folder).certificate.serial();
        let node = start_in(folder, plan(network, &supernodes, Answer::Ring)).await;
        until("its papers are renewed", async || {
            let now = identity(&node).await;
            !now.restoring && now.certificate_not_after_unix_ms > unix_ms() + 300 * DAY
        })
        .await;
        let now = identity(&node).await;
        assert!(now.certificate_serial >= before && !now.revoked);
        assert_eq!(keys_named(&node).await, expected);
        until("the first has heard of it", async || identity(&alice).await.epoch == now.epoch).await;
        assert_eq!(keys_named(&alice).await, expected);
        stop([node]).await;
    }
    assert!(!identity(&added).await.revoked && !identity(&alice).await.revoked);
    assert!(identity(&phone).await.revoked);
    stop(supernodes.into_iter().chain([alice, phone, added])).await;
}

/// The other holder's set is newer and knows nothing of what was done here: a revocation and a new certificate are made
/// again, and a device that was added is told to be gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_simultaneous_change_undid_is_made_again_or_told() {
    let supernodes = supernodes(126..=128).await;
    let alice = leaf(129, &supernodes).await;
    let phone = add_by_link(&alice, 130, "Phone", &supernodes).await;
    let other = restored(&words_of(&alice), 137, &supernodes).await;
    until("the first knows all", async || identity(&alice).await.devices == 3).await;
    let other_key = other.ready.device.clone();
    let other = pause(other).await;
    let knew = keys_of(&other).device_set;

    let own = alice.ready.device.clone();
    rename(&alice, &own, "Laptop").await.unwrap();
    revoke(&alice, "Phone").await.unwrap();
    let added = add_by_link(&alice, 138, "Tablet", &supernodes).await;
    let serial = identity(&alice).await.certificate_serial;
    // As if it had signed at the same moment, and a little later.
    let mut keys = keys_of(&other);
    let device_set = keys.sign_set(&knew, knew.devices(), identity(&alice).await.epoch + 1).unwrap();
    let (certificate, epoch) = (keys.certificate.clone(), device_set.epoch());
    keys.take_papers(&other.path().join("data"), Papers { certificate, device_set }).unwrap();
    let mut events = alice.handle.events();
    let other = start_in(other, plan(137, &supernodes, Answer::Ring)).await;

    until("it is made again", async || identity(&alice).await.epoch > epoch).await;
    let now = identity(&alice).await;
    assert!(!now.revoked && now.certificate_serial == serial && now.label == "Laptop");
    let mut expected = vec![own, other_key];
    expected.sort();
    assert_eq!(keys_named(&alice).await, expected);
    until("the other follows", async || identity(&other).await.epoch == now.epoch).await;
    assert_eq!(keys_named(&other).await, expected);
    assert!(identity(&phone).await.revoked);
    until("the device that was added knows", async || identity(&added).await.revoked).await;
    let gone = async {
        loop {
            if let NodeEvent::Notice { problem } = events.recv().await.unwrap()
                && problem.code == "T1712"
            {
                break problem.message;
            }
        }
    };
    let gone = tokio::time::timeout(WITHIN, gone).await.expect("its person is told");
    assert_eq!(gone, "\"Tablet\" is no longer a device of your account.");
    stop(supernodes.into_iter().chain([alice, phone, other, added])).await;
}

/// Both sign in the same millisecond: the sets have one epoch, and the greater one counts for everybody, also for the
/// device that signed the other. Their certificates have one serial, which no set can name twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sets_of_one_epoch_become_one() {
    let supernodes = supernodes(240..=242).await;
    let alice = leaf(243, &supernodes).await;
    let other = restored(&words_of(&alice), 244, &supernodes).await;
    until("the first knows both", async || identity(&alice).await.devices == 2).await;
    let own = alice.ready.device.clone();
    let other = pause(other).await;
    let knew = keys_of(&other).device_set;
    let mut keys = keys_of(&other);
    rename(&alice, &own, "Laptop").await.unwrap();
    let its = keys_of(&alice.folder).device_set;
    // Which of the two ranks higher depends on their bytes: it is all the same.
    let papers = keys.sign_device(&knew, keys.device.public(), "Desk", its.epoch()).unwrap();
    assert_eq!((papers.certificate.serial(), papers.device_set.epoch()), (its.epoch(), its.epoch()));
    keys.take_papers(&other.path().join("data"), papers).unwrap();
    let other = start_in(other, plan(244, &supernodes, Answer::Ring)).await;

    until("one set names both as they are", async || {
        let (one, two) = (keys_of(&alice.folder), keys_of(&other.folder));
        let set = one.device_set;
        set == two.device_set && set.admits(&one.certificate) && set.admits(&two.certificate)
    })
    .await;
    assert_eq!(
        (identity(&alice).await.label, identity(&other).await.label),
        ("Laptop".into(), "Desk".into())
    );
    stop(supernodes.into_iter().chain([alice, other])).await;
}

/// Both sign at once, over the network: whoever is first, both changes stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_holders_change_the_set_at_once() {
    let supernodes = supernodes(163..=165).await;
    let alice = leaf(166, &supernodes).await;
    let phone = add_by_link(&alice, 167, "Phone", &supernodes).await;
    let other = restored(&words_of(&alice), 168, &supernodes).await;
    until("the first knows all", async || identity(&alice).await.devices == 3).await;
    let (own, its) = (alice.ready.device.clone(), other.ready.device.clone());
    // What one device is asked for while it changes something, by its person or by itself, waits for its turn.
    let (desk, first, revoked) =
        tokio::join!(rename(&other, &its, "Desk"), rename(&alice, &own, "First"), revoke(&alice, "Phone"));
    desk.and(first).and(revoked).unwrap();
    let (one, two) = tokio::join!(rename(&alice, &own, "Laptop"), rename(&other, &its, "Study"));
    one.and(two).unwrap();
    until("both agree", async || {
        let (one, two) = (identity(&alice).await, identity(&other).await);
        let whole = |node: &TestNode| !keys_of(&node.folder).lapsed;
        one.epoch == two.epoch && one.devices == 2 && whole(&alice) && whole(&other)
    })
    .await;
    assert_eq!(identity(&alice).await.label, "Laptop");
    assert_eq!(identity(&other).await.label, "Study");
    assert!(identity(&phone).await.revoked);
    stop(supernodes.into_iter().chain([alice, phone, other])).await;
}
