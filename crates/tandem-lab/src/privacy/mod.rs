//! Who learns whose address: two people, six supernodes, all that each of them receives, searched byte by byte
//! (docs/PRIVACY.md says what must hold; this holds it to that).
//!
//! As strangers they look each other up, ask, decline, call both ways with sound, change networks in mid-call, lose a
//! relay, hang up and go on living; then they are contacts of whom one wants relays only; then contacts. In the first
//! two no address of either may be anywhere at the other's: in packets, in what the program receives once it is
//! decrypted, in what it shows, logs and keeps. In the last the same search must find them: that it can is part of what
//! is tested. Of the supernodes none may be told any address of anybody: what one knows is whom it has packets from.

mod capture;
mod needles;
mod stage;
mod tap;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use tandem_api::CallPath;

use crate::call::CallOutcome;
use capture::{Packet, readable};
use needles::{Found, Search, Secret, Value};
use stage::{Evidence, Stage, Who};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// After a call: long enough for whatever a node says to a line that stays open.
const AFTERWARDS: Duration = s(6);
const STRANGERS: &str = "strangers";
/// Findings of one kind that are written out.
const SHOWN_MAX: usize = 12;
/// Bytes of a packet in which something was found that are shown.
const SHOWN_BYTES: usize = 256;

/// How it is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program under test, built with its tap.
    pub binary: PathBuf,
    /// Folder with alice.wav and bob.wav.
    pub speech: PathBuf,
    /// Folder for data, logs, taps and recordings.
    pub out: PathBuf,
}

/// What was found where it may not be, and what was searched.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Must be empty.
    pub leaks: Vec<String>,
    /// What the search should have found, and did not. Must be empty.
    pub blind: Vec<String>,
    /// For each part of the test what was looked through.
    pub searched: Vec<Searched>,
    /// For each supernode whose packets it had, in the part of the strangers.
    pub supernodes: BTreeMap<String, Vec<String>>,
}

/// The size of what was looked through at one place.
#[derive(Debug, Clone, Serialize)]
pub struct Searched {
    pub part: &'static str,
    pub place: String,
    pub packets: usize,
    pub streams: usize,
    pub decrypted_bytes: usize,
    pub shown_bytes: usize,
}

impl Report {
    /// Whether all is as it must be.
    #[must_use]
    pub fn held(&self) -> bool {
        self.leaks.is_empty() && self.blind.is_empty()
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut put = |line: String| {
            writeln!(text, "{line}").expect("invariant: writing to a string does not fail");
        };
        put(format!(
            "{:<12} {:<8} {:>8} {:>8} {:>16} {:>12}",
            "part", "place", "packets", "streams", "decrypted bytes", "shown bytes"
        ));
        for it in &self.searched {
            put(format!(
                "{:<12} {:<8} {:>8} {:>8} {:>16} {:>12}",
                it.part, it.place, it.packets, it.streams, it.decrypted_bytes, it.shown_bytes
            ));
        }
        for (name, people) in &self.supernodes {
            put(format!("{name} had packets from: {}", people.join(", ")));
        }
        for (title, lines) in [("LEAK", &self.leaks), ("NOT SEEN", &self.blind)] {
            lines.iter().for_each(|line| put(format!("{title}: {line}")));
        }
        put(if self.held() { "Nobody learnt what they may not." } else { "NOT HELD" }.to_owned());
        text
    }

    fn leaks(&mut self, what: Vec<String>) {
        self.leaks.extend(what.into_iter().take(SHOWN_MAX));
    }

    fn must_see(&mut self, seen: bool, what: impl FnOnce() -> String) {
        if !seen {
            self.blind.push(what());
        }
    }
}

/// Runs it all.
///
/// # Errors
/// When the lab cannot be built or a call does not go as planned; what is found is in the report.
pub fn run(options: &Options, say: &dyn Fn(String)) -> Result<Report> {
    let mut report = Report::default();
    let mut stage = Stage::build(options)?;
    say("strangers: look-up, request, declined, answered, networks that change, a relay that dies".to_owned());
    strangers(&mut stage, say).context("as strangers")?;
    judge_private(&mut stage, STRANGERS, &mut report)?;
    say("contacts, of whom one wants relays only".to_owned());
    stage.make_contacts(true)?;
    for by in Who::BOTH {
        let outcome = plain_call(&mut stage, by, s(5))?;
        ensure!(outcome.result.path == Some(CallPath::Relayed), "relays only, and the call was direct");
    }
    judge_private(&mut stage, "relays only", &mut report)?;
    say("contacts: now the same search must find their addresses".to_owned());
    stage.set_relay_only(Who::Bob, false)?;
    let outcome = plain_call(&mut stage, Who::Alice, s(6))?;
    ensure!(outcome.result.path == Some(CallPath::Direct), "contacts, and the call was not direct");
    judge_contacts(&mut stage, &mut report)?;
    Ok(report)
}

// ---- what happens -------------------------------------------------------------------------------------------------

fn strangers(stage: &mut Stage, say: &dyn Fn(String)) -> Result<()> {
    for who in Who::BOTH {
        stage.examine_network(who)?;
    }
    refused(stage).context("without an invitation")?;
    let invitation = stage.person(Who::Bob)?.invitation()?;
    let call = stage.call(Who::Alice, invitation.clone(), s(5), &[])?;
    stage.decline(Who::Bob)?;
    let declined = stage.finish(call, Who::Alice)?;
    ensure!(!declined.result.connected, "it was declined, and connected");
    say(format!("  declined: {}", declined.result.why));

    stage.restart(Who::Bob, "wav")?;
    let outcome = long_call(stage, Who::Alice, invitation).context("Alice calls Bob")?;
    say(format!("  Alice called Bob: {}", outcome.result.why));
    let invitation = stage.person(Who::Alice)?.invitation()?;
    let outcome = long_call(stage, Who::Bob, invitation).context("Bob calls Alice")?;
    say(format!("  Bob called Alice: {}", outcome.result.why));
    std::thread::sleep(AFTERWARDS);
    Ok(())
}

/// A request, and a call that may not ring.
fn refused(stage: &mut Stage) -> Result<()> {
    let bob = stage.person(Who::Bob)?.address().to_owned();
    let asked = stage.person(Who::Alice)?.command(&["request", &bob, "--message", "It is me."]).output()?;
    ensure!(asked.status.success(), "the request: {}", String::from_utf8_lossy(&asked.stderr));
    let call = stage.call(Who::Alice, bob, s(3), &[])?;
    let refused = stage.finish(call, Who::Alice)?;
    ensure!(!refused.result.connected, "a stranger may not ring, and was connected");
    Ok(())
}

/// A call of strangers whose caller leaves its network, and one of whose relays dies.
fn long_call(stage: &mut Stage, by: Who, whom: String) -> Result<CallOutcome> {
    let mut call = stage.call(by, whom, s(18), &[])?;
    call.connected()?;
    pass(&mut call, s(4))?;
    stage.travel(by, false)?;
    pass(&mut call, s(5))?;
    stage.kill_relay_of(&call, by)?;
    pass(&mut call, s(4))?;
    let outcome = stage.finish(call, by)?;
    check(&outcome, CallPath::Relayed)?;
    stage.travel(by, true)?;
    std::thread::sleep(AFTERWARDS);
    for who in Who::BOTH {
        stage.person(who)?.wait_until(s(30), |status| status.reach.homes.len() >= 3)?;
    }
    Ok(outcome)
}

fn pass(call: &mut crate::call::Call, time: Duration) -> Result<()> {
    let until = std::time::Instant::now() + time;
    while let Some(left) = until.checked_duration_since(std::time::Instant::now()).filter(|it| !it.is_zero())
    {
        call.next(left)?;
    }
    Ok(())
}

/// A contact calls the other by name.
fn plain_call(stage: &mut Stage, by: Who, length: Duration) -> Result<CallOutcome> {
    let call = stage.call(by, by.other().name().to_owned(), length, &[])?;
    let outcome = stage.finish(call, by)?;
    ensure!(outcome.result.connected, "{}", outcome.result.why);
    std::thread::sleep(AFTERWARDS);
    Ok(outcome)
}

fn check(outcome: &CallOutcome, path: CallPath) -> Result<()> {
    ensure!(outcome.result.connected, "{}", outcome.result.why);
    ensure!(outcome.result.path == Some(path), "the path is {:?}", outcome.result.path);
    for (side, report) in [("caller", &outcome.caller), ("callee", &outcome.callee)] {
        let report = report.as_ref().with_context(|| format!("no report of the {side}"))?;
        ensure!(report.call.result.packets.received > 200, "the {side} heard too little");
    }
    Ok(())
}

// ---- what is found ------------------------------------------------------------------------------------------------

fn judge_private(stage: &mut Stage, part: &'static str, report: &mut Report) -> Result<()> {
    judge_people(stage, part, report)?;
    judge_supernodes(stage, part, report)
}

/// Nothing of the one at the other, nor any packet from one to the other in the middle of the network.
fn judge_people(stage: &mut Stage, part: &'static str, report: &mut Report) -> Result<()> {
    for who in Who::BOTH {
        let evidence = stage.evidence(who)?;
        let shown = stage.shown(who)?;
        let secrets = stage.secrets(who.other()).to_vec();
        let look = Look { place: who.name(), secrets: &secrets, search: Search::new(&secrets) };
        report.leaks(look.all(&evidence, &shown));
        report.searched.push(searched(part, who.name(), &evidence, &shown));
        sees_itself(stage.secrets(who), &evidence, who, report);
        if part == STRANGERS {
            sees_streams(&evidence, who, report);
        }
    }
    let ips = |who| ips(stage.secrets(who));
    let (alice, bob) = (ips(Who::Alice), ips(Who::Bob));
    let between = |it: &&Packet| {
        alice.contains(&it.from) && bob.contains(&it.to) || bob.contains(&it.from) && alice.contains(&it.to)
    };
    let core = stage.core()?;
    report.must_see(core.len() > 1_000, || "packets in the middle of the network".to_owned());
    let direct =
        core.iter().filter(between).map(|it| format!("{part}: a packet went from {} to {}", it.from, it.to));
    report.leaks(direct.collect());
    Ok(())
}

/// What a capture and a tap of somebody must have: else nothing that they do not have means anything.
fn sees_itself(own: &[Secret], evidence: &Evidence, who: Who, report: &mut Report) {
    let search = Search::new(own);
    let packets: Vec<&Packet> = evidence.packets.iter().collect();
    let forms: BTreeSet<&str> =
        readable(&packets).iter().flat_map(|bytes| search.bytes(bytes)).map(|found| found.form).collect();
    for form in ["XOR-ed with the cookie", "XOR-ed with the transaction id"] {
        report.must_see(forms.contains(form), || format!("{}'s own address from STUN, {form}", who.name()));
    }
    // Homes stay as they are while nothing happens to them; signalling is opened by each stranger's call.
    let overlay: usize = evidence.heard.iter().filter(|it| it.place.starts_with("libp2p")).count();
    report.must_see(overlay > 0, || format!("{}'s overlay streams", who.name()));
    let media = evidence.heard.iter().filter(|it| it.place.starts_with("media")).count();
    report.must_see(media > 100, || format!("{}'s media", who.name()));
}

/// In the first part everything is opened that a node ever opens.
fn sees_streams(evidence: &Evidence, who: Who, report: &mut Report) {
    for (kind, protocol) in [("home", "/home/1"), ("signalling", "/signal/1")] {
        let there = evidence.heard.iter().any(|it| contains(&it.bytes, protocol.as_bytes()));
        report.must_see(there, || format!("{}'s {kind} streams", who.name()));
    }
}

/// A supernode knows those it has packets from, and is told nobody's address.
fn judge_supernodes(stage: &mut Stage, part: &'static str, report: &mut Report) -> Result<()> {
    let people: Vec<Secret> = Who::BOTH.iter().flat_map(|who| stage.secrets(*who)).cloned().collect();
    let search = Search::new(&people);
    for (name, addresses) in stage.server_hosts()? {
        let Evidence { packets, heard } = stage.evidence_of(&name)?;
        let (received, sent): (Vec<_>, Vec<_>) =
            packets.into_iter().partition(|it| addresses.contains(&it.to));
        let seen: BTreeSet<IpAddr> = received.iter().map(|packet| packet.from).collect();
        let whom = people.iter().filter(|it| matches!(it.value, Value::Ip(ip) if seen.contains(&ip)));
        let whom: Vec<String> = whom.map(|it| it.what.clone()).collect();
        let private = whom.iter().filter(|what| what.contains("private"));
        report.leaks(private.map(|what| format!("{part}: {name} had packets from {what}")).collect());

        let sent: Vec<&Packet> = sent.iter().collect();
        let told = readable(&sent).iter().flat_map(|bytes| search.bytes(bytes)).count();
        let is_relay = readable(&received.iter().collect::<Vec<_>>()).iter().any(|bytes| bytes[0] < 4);
        // One that was killed answers nobody.
        let lives = !heard.is_empty();
        report.must_see(!is_relay || !lives || told > 0, || {
            format!("{name}: what it tells its clients by STUN")
        });
        let evidence = Evidence { packets: received, heard };
        // Whose packets they are is in their headers; in what they say nobody's address is.
        let look = Look { place: &name, secrets: &people, search: Search::new(&people) };
        report.leaks(look.said(&evidence));
        report.searched.push(searched(part, &name, &evidence, &[]));
        report.supernodes.entry(name).or_default().extend(whom);
    }
    report.supernodes.values_mut().for_each(|whom| {
        whom.sort();
        whom.dedup();
    });
    Ok(())
}

/// The control: contacts do learn each other's addresses, and the search sees it in each place where it looked before.
fn judge_contacts(stage: &mut Stage, report: &mut Report) -> Result<()> {
    for who in Who::BOTH {
        let evidence = stage.evidence(who)?;
        let shown = stage.shown(who)?;
        let secrets = stage.secrets(who.other()).to_vec();
        let look = Look { place: who.name(), secrets: &secrets, search: Search::new(&secrets) };
        report.searched.push(searched("contacts", who.name(), &evidence, &shown));
        let packets = look.headers(&evidence).len();
        report.must_see(packets > 0, || format!("contacts: packets between them at {}", who.name()));
        let told = look.heard(&evidence);
        for (form, what) in [("four bytes", "public"), ("four bytes", "private"), ("sixteen bytes", "IPv6")] {
            let seen = told.iter().any(|line| line.contains(form) && line.contains(what));
            report.must_see(seen, || {
                format!("contacts: the other's {what} address in signalling at {}", who.name())
            });
        }
        // The callee's report has its own candidates only.
        let seen = who == Who::Bob || look.shown(&shown).iter().any(|line| line.contains("--why"));
        report.must_see(seen, || format!("contacts: the other's address in what --why shows {}", who.name()));
    }
    Ok(())
}

/// One search at one place.
struct Look<'a> {
    place: &'a str,
    secrets: &'a [Secret],
    search: Search,
}

impl Look<'_> {
    fn all(&self, evidence: &Evidence, shown: &[(String, Vec<u8>)]) -> Vec<String> {
        let mut found = self.headers(evidence);
        found.extend(self.said(evidence));
        found.extend(self.shown(shown));
        found
    }

    /// Packets from there or to there.
    fn headers(&self, evidence: &Evidence) -> Vec<String> {
        let theirs = ips(self.secrets);
        let ends = evidence.packets.iter().filter(|it| theirs.contains(&it.from) || theirs.contains(&it.to));
        ends.map(|it| format!("{}: a packet from {} to {}", self.place, it.from, it.to)).collect()
    }

    /// In packets as they come, and in what was decrypted.
    fn said(&self, evidence: &Evidence) -> Vec<String> {
        let packets: Vec<&Packet> = evidence.packets.iter().collect();
        let readable = readable(&packets);
        let in_packets =
            readable.iter().flat_map(|bytes| self.lines(&readable_words(bytes), self.search.bytes(bytes)));
        in_packets.chain(self.heard(evidence)).collect()
    }

    fn heard(&self, evidence: &Evidence) -> Vec<String> {
        evidence.heard.iter().flat_map(|it| self.lines(&it.place, self.search.bytes(&it.bytes))).collect()
    }

    /// What the program shows, logs and keeps. In the store, short binary forms are looked for, too.
    fn shown(&self, shown: &[(String, Vec<u8>)]) -> Vec<String> {
        let search = |(place, bytes): &(String, Vec<u8>)| {
            let is_store = place.contains("store.db");
            let found = if is_store { self.search.bytes(bytes) } else { self.search.text(bytes) };
            self.lines(place, found)
        };
        shown.iter().flat_map(search).collect()
    }

    fn lines(&self, place: &str, found: Vec<Found>) -> Vec<String> {
        let line = |it: Found| {
            let what = &self.secrets[it.secret].what;
            format!("{}: {what}, as {}, at byte {} of {place}", self.place, it.form, it.at)
        };
        found.into_iter().map(line).collect()
    }
}

/// With its first bytes, so that whoever reads of a leak sees what kind of packet it was.
fn readable_words(bytes: &[u8]) -> String {
    let mut words = format!("a packet that anybody can read ({} bytes: ", bytes.len());
    for byte in bytes.iter().take(SHOWN_BYTES) {
        // Writing to a String cannot fail.
        write!(words, "{byte:02x}").ok();
    }
    words + ")"
}

fn ips(secrets: &[Secret]) -> BTreeSet<IpAddr> {
    let ip = |it: &Secret| match it.value {
        Value::Ip(ip) => Some(ip),
        Value::Network(_) | Value::Name(_) => None,
    };
    secrets.iter().filter_map(ip).collect()
}

fn searched(part: &'static str, place: &str, evidence: &Evidence, shown: &[(String, Vec<u8>)]) -> Searched {
    Searched {
        part,
        place: place.to_owned(),
        packets: evidence.packets.len(),
        streams: evidence.heard.len(),
        decrypted_bytes: evidence.heard.iter().map(|it| it.bytes.len()).sum(),
        shown_bytes: shown.iter().map(|(_, bytes)| bytes.len()).sum(),
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
