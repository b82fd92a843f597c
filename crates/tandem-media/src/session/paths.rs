//! The path set: which paths the sound takes. Pure policy: it sees what was heard and says where to send.
//!
//! Each end decides for itself where it sends, from what it hears and from what the other end says it hears. The
//! controlled end follows the controlling end's choice while that choice works for it, so both leave a dead path.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::choice::MIRROR_FIRST;
use super::description::{PathName, PathNames};
use super::flow::SoundFlow;
use super::path::{Path, SILENT, age_ms};
use super::probe::{Entry, MAX_ENTRIES, NEVER, Probe};
use super::types::{PathEnd, PathId, Redundancy, Route};

/// How long a silent path keeps the mirror on.
const HOLD_SILENT: Duration = Duration::from_secs(2);
/// The same where two copies do not fit: there silence is most often the queue's doing, and copies lengthen it.
const HOLD_NARROW: Duration = Duration::from_millis(400);
/// Where two copies do not fit, sound that stops for this long may have lost its path: two probes before a packet take
/// 40 ms there.
const SUSPECT_NARROW: Duration = Duration::from_millis(200);
/// When a copy was given up, the queue is let drain for this long, whatever comes late.
const NARROW_DRAIN: Duration = Duration::from_secs(3);
/// The other end's word that sound has stopped counts this much earlier, since its clock ran while it was on its way.
const TOLD_EARLIER: Duration = Duration::from_millis(5);
/// One probe this often on each path (DESIGN §7).
const PROBE: Duration = Duration::from_millis(200);
/// The same while a path is being checked, for its first second (RFC 8445 §14.2: at least 50 ms apart).
const PROBE_CHECKING: Duration = Duration::from_millis(50);
const CHECK_FAST: Duration = Duration::from_secs(1);
/// Half as often until then.
const CHECK_SLOWER: Duration = Duration::from_secs(3);
/// The same on paths that have long been silent, while another one works.
const PROBE_SLOW: Duration = Duration::from_secs(1);
/// A path silent this long is probed slowly.
const LONG_SILENT: Duration = Duration::from_secs(20);
/// No path usable for this long: the call needs other relays. 600 ms after the last packet.
const ALL_SILENT: Duration = Duration::from_millis(150);
/// The same before anything has ever passed.
const ALL_SILENT_FIRST: Duration = Duration::from_millis(2500);
const ALL_SILENT_REPEAT: Duration = Duration::from_secs(2);
/// What a relay that leaves gave is kept this long at least.
const LEAVE_AFTER: Duration = Duration::from_secs(3);
/// Paths of one session, dead ones included.
pub(super) const MAX_PATHS: usize = 32;

/// What the policy wants told or done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    PrimaryChanged {
        from: Option<PathId>,
        to: PathId,
        why: &'static str,
    },
    MirroringChanged {
        on: bool,
        second: Option<PathId>,
        why: &'static str,
    },
    /// Send again what was sent within this time before now: it may be lost.
    Resend {
        back: Duration,
    },
    /// Which paths are heard has changed.
    ReportChanged,
    AllSilent,
    Recovered,
    /// Nothing ever came back on this path; it is closed.
    GaveUp(PathId),
}

#[derive(Debug)]
pub(super) struct PathSet {
    pub(super) redundancy: Redundancy,
    pub(super) controlling: bool,
    pub(super) names: Option<PathNames>,
    pub(super) paths: BTreeMap<PathId, Path>,
    pub(super) primary: Option<PathId>,
    pub(super) second: Option<PathId>,
    pub(super) mirroring: bool,
    pub(super) connected: bool,
    /// When the first sound went either way: before that it only rings.
    pub(super) sound_began: Option<Instant>,
    pub(super) trouble: Option<(Instant, &'static str)>,
    /// Since when and until when two copies do not fit.
    pub(super) narrow: Option<(Instant, Instant)>,
    pub(super) sound_in: SoundFlow,
    pub(super) sound_out: SoundFlow,
    /// Since when no path is usable, and when that is to be told (again).
    pub(super) silent: Option<Silence>,
    pub(super) last_report_in: u32,
    pub(super) decisions: Vec<Decision>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Silence {
    tell_at: Instant,
    told: bool,
}

impl PathSet {
    pub(super) fn new(redundancy: Redundancy, controlling: bool) -> Self {
        Self {
            redundancy,
            controlling,
            names: None,
            paths: BTreeMap::new(),
            primary: None,
            second: None,
            mirroring: false,
            connected: false,
            sound_began: None,
            trouble: None,
            narrow: None,
            sound_in: SoundFlow::default(),
            sound_out: SoundFlow::default(),
            silent: None,
            last_report_in: 0,
            decisions: Vec::new(),
        }
    }

    // ---- what happened ---------------------------------------------------------------------------------------

    /// How the two ends name paths; before this no probe may leave.
    pub(super) fn named(&mut self, names: PathNames) {
        for (id, path) in &mut self.paths {
            path.name = names.of(*id, &path.route);
            if path.route != Route::Direct {
                path.peer_name = Some(path.name);
            }
        }
        self.names = Some(names);
    }

    pub(super) fn names(&self) -> Option<&PathNames> {
        self.names.as_ref()
    }

    /// A path can carry packets now; whether they arrive is to be seen. The oldest closed one is forgotten if there
    /// are too many; `false` if all are open.
    pub(super) fn opened(&mut self, id: PathId, route: Route, now: Instant) -> bool {
        if self.paths.len() >= MAX_PATHS {
            let closed = self.paths.iter().find(|(id, path)| path.closed && self.primary != Some(**id));
            let Some(closed) = closed.map(|(id, _)| *id) else { return false };
            self.paths.remove(&closed);
        }
        let name = self.names.as_ref().map_or(PathName::DIRECT, |names| names.of(id, &route));
        self.paths.insert(id, Path::new(route, name, now));
        if self.silent.is_none() && self.primary.is_none() {
            self.silent = Some(Silence { tell_at: now + ALL_SILENT_FIRST, told: false });
        }
        true
    }

    /// Which addresses a direct path joins.
    pub(super) fn set_ends(&mut self, id: PathId, local: PathEnd, remote: PathEnd) {
        if let Some(path) = self.paths.get_mut(&id) {
            path.ends = Some((local, remote));
        }
    }

    /// The path's relay is reached by a new allocation, perhaps over another transport: it is tried at once.
    pub(super) fn moved(&mut self, id: PathId, route: Route, now: Instant) {
        if let Some(path) = self.paths.get_mut(&id) {
            path.route = route;
            path.next_probe = path.next_probe.min(now);
        }
    }

    /// The path's socket or relay is gone.
    pub(super) fn closed(&mut self, id: PathId, now: Instant) {
        if let Some(path) = self.paths.get_mut(&id) {
            path.closed = true;
            self.reconsider(now);
        }
    }

    /// The path's relay will be gone in a while: sound moves if it can, and is mirrored while it does.
    pub(super) fn leaving(&mut self, id: PathId, now: Instant) {
        let Some(path) = self.paths.get_mut(&id) else { return };
        path.leaving.get_or_insert(now);
        if self.primary == Some(id) {
            self.hold_silent(now, "the relay in use is stopping");
        }
        self.reconsider(now);
    }

    /// Whether nobody needs this path any more, whose relay is leaving: neither end sends first on it, copies go
    /// elsewhere, and both have had time to move.
    pub(super) fn may_leave(&self, id: PathId, now: Instant) -> bool {
        let Some(path) = self.paths.get(&id) else { return true };
        let long = path.leaving.is_some_and(|at| now.saturating_duration_since(at) >= LEAVE_AFTER);
        let primary = self.primary.filter(|primary| *primary != id).and_then(|id| self.paths.get(&id));
        let moved = primary.is_some_and(|primary| primary.usable(now)) && !path.peer_primary;
        long && moved && self.second != Some(id)
    }

    pub(super) fn connected(&mut self, now: Instant) {
        self.connected = true;
        self.reconsider(now);
    }

    /// An authentic probe came. Returns whether one should go back at once.
    pub(super) fn probe_heard(&mut self, id: PathId, probe: &Probe, now: Instant) -> bool {
        let Some(path) = self.paths.get_mut(&id) else { return false };
        if path.closed || !path.probe_heard(probe.sequence, now) {
            return false;
        }
        if probe.echo != 0 {
            path.echoed(probe.echo, Duration::from_millis(probe.echo_delay_ms.into()), now);
        }
        let answer = probe.answer || path.validated_at.is_none();
        path.peer_name = Some(probe.name);
        if probe.primary {
            for (other, path) in &mut self.paths {
                path.peer_primary = *other == id;
            }
        }
        if probe.sequence > self.last_report_in {
            self.last_report_in = probe.sequence;
            self.take_entries(&probe.entries);
            self.take_sound_age(probe, now);
        }
        self.reconsider(now);
        answer
    }

    /// The other end's word by way of signalling: what it hears (by path name).
    pub(super) fn told(&mut self, entries: &[Entry], now: Instant) {
        self.take_entries(entries);
        self.reconsider(now);
    }

    /// An authentic packet of sound came on this path, or the path's first copy of one. `new` if on no path before.
    pub(super) fn sound_heard(&mut self, id: PathId, sequence: u64, rtp_time: u32, new: bool, now: Instant) {
        if let Some(path) = self.paths.get_mut(&id) {
            path.credit_sound(sequence, now);
        }
        if new {
            self.sound_began.get_or_insert(now);
            self.sound_in.packet(sequence, rtp_time, now);
        }
        self.reconsider(now);
    }

    /// Something says that this path may be dead, but not for certain (an ICMP message anybody can forge).
    pub(super) fn doubt(&mut self, id: PathId, now: Instant) {
        let fresh = self.trouble.is_none_or(|(until, _)| until < now + HOLD_SILENT / 2);
        if self.primary == Some(id) && fresh {
            self.suspect(
                now,
                self.suspect_after(&self.sound_out, now),
                "the relay in use was reported unreachable",
            );
            self.tell_all(now);
            self.reconsider(now);
        }
    }

    /// The least of what the other end misses on the paths that carry our sound, thousandths.
    pub(super) fn least_lost_permille(&self, now: Instant) -> u16 {
        let route = self.route(now);
        route
            .iter()
            .filter_map(|id| self.paths.get(id))
            .map(|path| path.peer_lost_permille)
            .min()
            .unwrap_or(0)
    }

    /// Two copies filled a queue. Until then one is sent, but for the moments in which a path may have died.
    pub(super) fn only_one_until(&mut self, until: Instant, now: Instant) {
        self.narrow = Some((now, until));
        self.trouble = None;
        self.reconsider(now);
    }

    pub(super) fn sound_sent(&mut self, sequence: u64, rtp_time: u32, now: Instant) {
        self.sound_began.get_or_insert(now);
        self.sound_out.packet(sequence, rtp_time, now);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.sound_in.flowing() && self.sound_deadline(now).is_some_and(|at| now >= at) {
            self.sound_in.stopped();
            self.suspect(now, 2 * self.suspect_after(&self.sound_out, now), "no sound comes in");
            self.tell_all(now);
        }
        self.give_up(now);
        self.reconsider(now);
    }

    /// Leaves pairs alone that were checked for long enough.
    fn give_up(&mut self, now: Instant) {
        for (id, path) in &mut self.paths {
            if path.give_up_at().is_some_and(|at| at <= now) {
                path.closed = true;
                path.gave_up_at = Some(now);
                self.decisions.push(Decision::GaveUp(*id));
            }
        }
    }

    // ---- what to do ------------------------------------------------------------------------------------------

    /// The paths for a packet of sound, best first; empty before any path is valid.
    pub(super) fn route(&self, now: Instant) -> Vec<PathId> {
        let Some(primary) = self.primary else { return Vec::new() };
        let mut route = vec![primary];
        if self.mirroring {
            route.extend(self.second);
        }
        if self.redundancy != Redundancy::Off && self.silent.is_some() {
            // Nothing is known to pass: try all that ever did.
            let mirror = self.mirror();
            route.extend(self.valid(now).filter(|id| *id != primary && Some(*id) != mirror).take(3));
        }
        route.retain(|id| self.paths.get(id).is_some_and(|path| path.consents(now)));
        route
    }

    /// All paths that have been valid and may be used: for DTLS and ICE, which are rare and must get through.
    pub(super) fn valid(&self, now: Instant) -> impl Iterator<Item = PathId> + '_ {
        self.paths.iter().filter(move |(_, path)| path.consents(now)).map(|(id, _)| *id)
    }

    pub(super) fn primary(&self) -> Option<PathId> {
        self.primary
    }

    /// The second path, while sound is mirrored on it.
    pub(super) fn mirror(&self) -> Option<PathId> {
        self.second.filter(|_| self.mirroring)
    }

    pub(super) fn get(&self, id: PathId) -> Option<&Path> {
        self.paths.get(&id)
    }

    /// Nothing has been heard on it for 20 s, or it was never valid and is as old.
    pub(super) fn long_silent(&self, id: PathId, now: Instant) -> bool {
        let since = |path: &Path| now.saturating_duration_since(path.last_heard.unwrap_or(path.opened_at));
        self.paths.get(&id).is_none_or(|path| since(path) > LONG_SILENT)
    }

    pub(super) fn decisions(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.decisions)
    }

    /// Whether anything ever came back on any path.
    pub(super) fn has_been_valid(&self) -> bool {
        self.paths.values().any(|path| path.validated_at.is_some())
    }

    /// Paths on which probes go, whether they are known to arrive or not.
    pub(super) fn open(&self) -> Vec<PathId> {
        self.paths.iter().filter(|(_, path)| !path.closed).map(|(id, _)| *id).collect()
    }

    /// Paths on which a probe is due.
    pub(super) fn due_probes(&self, now: Instant) -> Vec<PathId> {
        self.paths
            .iter()
            .filter(|(_, path)| !path.closed && path.next_probe <= now)
            .map(|(id, _)| *id)
            .collect()
    }

    /// What the next probe on this path says, its sequence number and the sound's excepted. Notes that it leaves.
    pub(super) fn compose_probe(&mut self, id: PathId, sequence: u32, now: Instant) -> Option<Probe> {
        let entries = self.entries(now);
        let interval = self.probe_interval(id, now);
        let primary = self.primary == Some(id);
        let sound =
            self.sound_out.last.is_some_and(|at| now.saturating_duration_since(at) < 2 * PROBE_CHECKING);
        let sound_age_ms = age_ms(self.sound_in.last, now);
        let path = self.paths.get_mut(&id)?;
        let (echo, echo_delay_ms) = path.echo(now);
        path.probe_sent(sequence, now);
        path.next_probe = now + interval;
        let answer = path.validated_at.is_none();
        let name = path.name;
        Some(Probe {
            sequence,
            name,
            primary,
            answer,
            sound,
            ended: false,
            echo,
            echo_delay_ms,
            sound_age_ms,
            sound_sequence: 0,
            standing_ms: NEVER,
            clock: 0,
            received_kbit_s: NEVER,
            entries,
        })
    }

    /// What is heard on each path.
    pub(super) fn entries(&self, now: Instant) -> Vec<Entry> {
        let open = self.paths.values().rev().filter(|path| !path.closed);
        open.take(MAX_ENTRIES)
            .map(|path| Entry {
                name: path.name,
                age_ms: age_ms(path.last_heard, now),
                lost_permille: path.lost_permille(now),
            })
            .collect()
    }

    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let open = || self.paths.values().filter(|path| !path.closed);
        let probes = open().map(|path| path.next_probe);
        let given_up = open().filter_map(Path::give_up_at);
        let silences =
            open().filter(|path| path.told_heard).filter_map(|path| path.last_heard.map(|at| at + SILENT));
        let mirror_end = [self.trouble.map(|(until, _)| until), self.sound_began.map(|at| at + MIRROR_FIRST)];
        let mirror_end = mirror_end
            .into_iter()
            .flatten()
            .filter(|_| self.mirroring && self.redundancy == Redundancy::Auto && self.sound_began.is_some())
            .max();
        let sound = self.sound_deadline(now).filter(|_| self.sound_in.flowing());
        let all = self.silent.map(|silence| silence.tell_at);
        probes.chain(given_up).chain(silences).chain(mirror_end).chain(sound).chain(all).min()
    }

    // ---- how it decides --------------------------------------------------------------------------------------

    fn sound_deadline(&self, now: Instant) -> Option<Instant> {
        self.sound_in.last.map(|last| last + self.suspect_after(&self.sound_in, now))
    }

    /// Silence of this length is strange.
    fn suspect_after(&self, flow: &SoundFlow, now: Instant) -> Duration {
        if self.narrow_now(now) { SUSPECT_NARROW } else { flow.suspect_after() }
    }

    fn take_entries(&mut self, entries: &[Entry]) {
        for entry in entries {
            let any_direct = entry.name == PathName::DIRECT;
            let named = |path: &&mut Path| {
                path.peer_name == Some(entry.name) || (any_direct && path.route == Route::Direct)
            };
            for path in self.paths.values_mut().filter(named) {
                path.peer_age = Some(match entry.age_ms {
                    NEVER => Duration::MAX,
                    ms => Duration::from_millis(ms.into()),
                });
                path.peer_lost_permille = entry.lost_permille;
            }
        }
    }

    /// The other end says for how long it has heard no sound: if we were sending, it was lost on the way.
    fn take_sound_age(&mut self, probe: &Probe, now: Instant) {
        let age = Duration::from_millis(probe.sound_age_ms.into());
        let suspect_after = self.suspect_after(&self.sound_out, now);
        if probe.sound_age_ms == NEVER || age + TOLD_EARLIER < suspect_after || !self.sound_out.flowing() {
            return;
        }
        let Some(last) = self.sound_out.last else { return };
        if now.saturating_duration_since(last) < suspect_after {
            let round_trip = self.paths.values().filter_map(|path| path.round_trip).max().unwrap_or_default();
            self.suspect(now, (age + round_trip).min(SILENT), "the other end hears no sound");
        }
    }

    fn suspect(&mut self, now: Instant, back: Duration, why: &'static str) {
        let draining = self.narrow.is_some_and(|(since, _)| now < since + NARROW_DRAIN);
        if self.redundancy == Redundancy::Off || draining {
            return;
        }
        self.hold_silent(now, why);
        self.decisions.push(Decision::Resend { back });
    }

    /// Two copies do not fit now.
    pub(super) fn narrow_now(&self, now: Instant) -> bool {
        self.narrow.is_some_and(|(_, until)| now < until)
    }

    /// A path fell silent, or may have.
    pub(super) fn hold_silent(&mut self, now: Instant, why: &'static str) {
        let hold = if self.narrow_now(now) { HOLD_NARROW } else { HOLD_SILENT };
        self.hold(now + hold, why);
    }

    pub(super) fn hold(&mut self, until: Instant, why: &'static str) {
        if self.trouble.is_none_or(|(old, _)| old < until) {
            self.trouble = Some((until, why));
        }
    }

    /// Lets a probe leave on every path at once.
    pub(super) fn tell_all(&mut self, now: Instant) {
        for path in self.paths.values_mut() {
            path.next_probe = path.next_probe.min(now);
        }
    }

    /// Puts everything that follows from what is known in order again.
    fn reconsider(&mut self, now: Instant) {
        self.note_heard(now);
        self.choose_primary(now);
        self.choose_mirror(now);
        self.note_silence(now);
    }

    fn note_heard(&mut self, now: Instant) {
        let mut changed = false;
        for path in self.paths.values_mut().filter(|path| !path.closed) {
            let heard = path.heard(now);
            changed |= heard != path.told_heard;
            path.told_heard = heard;
        }
        if changed {
            self.tell_all(now);
            self.decisions.push(Decision::ReportChanged);
        }
    }

    fn note_silence(&mut self, now: Instant) {
        if self.paths.values().any(|path| path.usable(now)) {
            if self.silent.take().is_some_and(|silence| silence.told) {
                self.decisions.push(Decision::Recovered);
            }
            return;
        }
        if self.primary.is_none() && self.silent.is_none() {
            return;
        }
        let silence = self.silent.get_or_insert(Silence { tell_at: now + ALL_SILENT, told: false });
        if now >= silence.tell_at {
            *silence = Silence { tell_at: now + ALL_SILENT_REPEAT, told: true };
            self.decisions.push(Decision::AllSilent);
        }
    }

    fn probe_interval(&self, id: PathId, now: Instant) -> Duration {
        let Some(path) = self.paths.get(&id) else { return PROBE_SLOW };
        let since = |at: Instant| now.saturating_duration_since(at);
        if path.validated_at.is_none() {
            return match path.checking_for(now) {
                time if time < CHECK_FAST => PROBE_CHECKING,
                time if time < CHECK_SLOWER => 2 * PROBE_CHECKING,
                _ => PROBE,
            };
        }
        // While nothing works at all, what comes back first is to be noticed at once.
        let long = path.last_heard.is_some_and(|at| since(at) > LONG_SILENT);
        if long && self.silent.is_none() { PROBE_SLOW } else { PROBE }
    }
}

#[cfg(test)]
mod tests {
    use tandem_proto::ids::ServiceKey;

    use super::*;
    use crate::session::testing::start;

    const MS: Duration = Duration::from_millis(1);

    /// A path set whose paths answer every probe, and the clock.
    struct Bench {
        set: PathSet,
        now: Instant,
        sequence: u32,
        silent: Vec<u32>,
        sound: u64,
        /// No sound flows yet.
        rings: bool,
    }

    impl Bench {
        fn new(redundancy: Redundancy, paths: u32) -> Self {
            let now = start();
            let mut set = PathSet::new(redundancy, true);
            set.named(PathNames::new("one", "two"));
            for n in 0..paths {
                let service = ServiceKey([u8::try_from(n).unwrap() + 1; 32]);
                assert!(set.opened(PathId(n), Route::Relay { service, tcp: false }, now));
            }
            let mut bench = Self { set, now, sequence: 0, silent: Vec::new(), sound: 0, rings: true };
            bench.run(1);
            bench.set.connected(bench.now);
            bench.rings = false;
            bench
        }

        /// 20 ms steps: each path that is not silent hears a probe that echoes ours; sound flows on the first.
        fn run(&mut self, steps: u32) {
            for _ in 0..steps {
                self.now += 20 * MS;
                self.set.handle_timeout(self.now);
                for id in self.set.paths.keys().copied().collect::<Vec<_>>() {
                    self.sequence += 1;
                    let ours = self.set.compose_probe(id, self.sequence, self.now).unwrap();
                    if self.silent.contains(&id.0) {
                        continue;
                    }
                    let entries = vec![Entry { name: ours.name, age_ms: 0, lost_permille: 0 }];
                    let theirs =
                        Probe { echo: ours.sequence, echo_delay_ms: 0, primary: false, entries, ..ours };
                    self.set.probe_heard(id, &theirs, self.now);
                }
                let heard = |id: &PathId| !self.rings && !self.silent.contains(&id.0);
                if let Some(id) = self.set.primary().filter(heard) {
                    self.sound += 1;
                    let rtp_time = u32::try_from(self.sound).unwrap() * 960;
                    self.set.sound_heard(id, self.sound, rtp_time, true, self.now);
                    self.set.sound_sent(self.sound, rtp_time, self.now);
                }
            }
        }
    }

    #[test]
    fn auto_mirrors_ten_seconds_and_then_when_sound_stops() {
        let mut bench = Bench::new(Redundancy::Auto, 2);
        bench.run(1);
        assert_eq!(bench.set.route(bench.now), [PathId(0), PathId(1)]);
        bench.run(510);
        assert_eq!(bench.set.route(bench.now), [PathId(0)]);
        bench.set.decisions();
        bench.silent.push(0);
        bench.run(3);
        assert_eq!(bench.set.route(bench.now), [PathId(0), PathId(1)], "mirrored after 60 ms");
        assert!(bench.set.decisions().iter().any(|decision| matches!(decision, Decision::Resend { .. })));
        bench.run(22);
        assert_eq!(bench.set.primary(), Some(PathId(1)), "left after 450 ms");
    }

    #[test]
    fn the_mirrored_seconds_begin_with_the_sound_however_long_it_rang() {
        let mut bench = Bench::new(Redundancy::Auto, 2);
        bench.rings = true;
        bench.run(1_500);
        assert_eq!(bench.set.mirror(), Some(PathId(1)));
        let wake = bench.set.poll_timeout(bench.now).expect("the next probe");
        assert!(wake >= bench.now, "nothing overdue while it rings: it would spin");
        bench.rings = false;
        bench.run(490);
        assert_eq!(bench.set.route(bench.now), [PathId(0), PathId(1)]);
        bench.run(20);
        assert_eq!(bench.set.route(bench.now), [PathId(0)]);
    }

    #[test]
    fn off_uses_one_path_only() {
        let mut bench = Bench::new(Redundancy::Off, 2);
        bench.run(10);
        assert_eq!(bench.set.route(bench.now), [PathId(0)]);
        bench.silent.push(0);
        bench.run(30);
        assert_eq!(bench.set.route(bench.now), [PathId(1)]);
    }

    #[test]
    fn when_all_are_silent_all_are_tried_and_it_is_told_again() {
        let mut bench = Bench::new(Redundancy::Auto, 3);
        bench.run(600);
        bench.silent = vec![0, 1, 2];
        bench.set.decisions();
        let mut told = Vec::new();
        for step in 1..=250 {
            bench.run(1);
            if bench.set.decisions().contains(&Decision::AllSilent) {
                told.push(step * 20);
            }
        }
        assert_eq!(bench.set.route(bench.now).len(), 3);
        assert_eq!(told, [620, 2620, 4620], "milliseconds, in steps of 20");
        bench.silent.clear();
        bench.run(2);
        assert!(bench.set.decisions().contains(&Decision::Recovered));
    }

    #[test]
    fn an_unreachable_relay_is_mirrored_not_left() {
        let mut bench = Bench::new(Redundancy::Auto, 2);
        bench.run(600);
        assert_eq!(bench.set.mirror(), None);
        bench.set.doubt(PathId(0), bench.now);
        assert_eq!((bench.set.primary(), bench.set.mirror()), (Some(PathId(0)), Some(PathId(1))));
        bench.run(150);
        assert_eq!(
            (bench.set.primary(), bench.set.mirror()),
            (Some(PathId(0)), None),
            "a false alarm passes"
        );
    }

    #[test]
    fn bad_news_by_signalling_moves_the_sound() {
        let mut bench = Bench::new(Redundancy::Auto, 2);
        bench.run(600);
        let name = bench.set.get(PathId(0)).unwrap().name;
        bench.set.told(&[Entry { name, age_ms: NEVER, lost_permille: 0 }], bench.now);
        assert_eq!(bench.set.primary(), Some(PathId(1)));
    }

    #[test]
    fn paths_are_bounded() {
        let mut bench = Bench::new(Redundancy::Auto, 2);
        for n in 2..100 {
            let opened = bench.set.opened(PathId(n), Route::Direct, bench.now);
            assert_eq!(opened, n < 32);
        }
        bench.set.closed(PathId(5), bench.now);
        assert!(bench.set.opened(PathId(100), Route::Direct, bench.now));
        assert!(bench.set.get(PathId(5)).is_none());
    }
}
