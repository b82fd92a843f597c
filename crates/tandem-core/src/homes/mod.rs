//! How a leaf keeps its homes: three supernodes in different networks, replaced when lost, never in a storm.
//!
//! See DESIGN "Homes are chosen" and `spec/overlay.md`. The driver feeds what happened and executes [`Command`]s; after
//! every call it drains [`Homes::poll_command`] and re-arms its timer from [`Homes::poll_timeout`].

mod beating;
mod link;
mod publishing;
mod recruit;
mod table;

use std::collections::VecDeque;

pub use beating::beats;
pub use link::LinkState;
pub use table::{CLASS_BOUNDS_MS, KNOWN_MAX, QUALITY_UNKNOWN, Remembered, Standing};

use crate::peer::{KnownPeer, PeerRef, RELEASE_UNKNOWN};
use crate::rng::Rng;
use crate::time::Now;
use link::{IDLE_BEAT_MS, Leaving, Link};
use publishing::Publishing;
use recruit::Recruiting;
use table::{Choice, Release, Table};

/// Homes a leaf keeps.
pub const HOMES: usize = 3;
/// Links at once, homes and attempts together.
const LINKS_MAX: usize = 8;
/// Commands waiting for the driver; the machine pauses when it does not drain them.
const COMMANDS_MAX: usize = 64;
/// A supernode may ask us to stay away for at most this long.
const RETRY_AFTER_MS_MAX: u32 = 15 * 60_000;
/// A supernode that broke the protocol, or speaks no version of ours, is left alone for this long.
const INCOMPATIBLE_MS: u64 = 60 * 60_000;
/// A device's cap on contacts counts them by the minute.
const HELD_BACK_MS_MAX: u64 = 60_000;
/// After we left a supernode ourselves.
const RELEASED_MS: u64 = 10_000;
/// A home that lied is kept this long at most while a replacement is sought.
const LIAR_MS: u64 = 60_000;
/// A home that was behind is not chosen again for this long.
const BEHIND_MS: u64 = 60 * 60_000;
/// After a drained supernode has left.
const DRAINED_MS: u64 = 60_000;
/// Clients of a draining supernode look for a new one within this time, evenly spread.
const DRAIN_JITTER_MS: u64 = 5_000;
/// Bounds for the heartbeat interval a home may ask for.
const BEAT_MS_MIN: u32 = 5_000;
const BEAT_MS_MAX: u32 = 20_000;

/// What the driver must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Dial, open the home stream, exchange hellos. Answer: `handle_opened` or `handle_closed`.
    Connect(PeerRef),
    /// Ask for a home reservation (frame `Reserve`) and for a circuit reservation; both must succeed.
    /// Answer: `handle_reserved`, `handle_busy` or `handle_closed`.
    Reserve(PeerRef),
    /// Send one heartbeat. Answer: `handle_heartbeat_answer`.
    Heartbeat { peer: PeerRef, in_call: bool },
    /// Close the connection and forget the reservation. Also for attempts that are given up. Nothing more is to be
    /// fed about this link: a late close belongs to it, not to a new attempt.
    Release(PeerRef),
    /// Publish the present [`Homes::reserved`] through this home. Answer: `handle_published` or
    /// `handle_publish_failed`.
    Publish { via: PeerRef },
    /// Ask this supernode which others it knows. Answer: `handle_known`, with that supernode as referrer, or
    /// `handle_ask_refused`.
    AskSupernodes(PeerRef),
}

/// Why a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Could not connect, was refused, or the connection or reservation was lost.
    Lost,
    /// It speaks no version of ours, or broke the protocol.
    Incompatible,
}

/// What a home did wrong in a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// Its answer did not verify.
    Lied,
    /// It gave an older record than another home, or than we have seen before.
    Behind,
    /// It found nothing where another home found a record that is not new.
    Omitted,
}

/// One link, for `tandem connections`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkInfo {
    pub peer: PeerRef,
    pub state: LinkState,
    /// It is being replaced (it drains, or is distrusted).
    pub leaving: bool,
}

/// The machine. One a device.
#[derive(Debug, Clone)]
pub struct Homes {
    rng: Rng,
    table: Table,
    links: Vec<Link>,
    recruiting: Recruiting,
    publishing: Publishing,
    commands: VecDeque<Command>,
    /// When the call that goes on began.
    call_since_ms: Option<u64>,
    /// Nothing is wanted any more.
    stopped: bool,
    /// The driver keeps links alive and says when one is silent.
    beats_elsewhere: bool,
}

impl Homes {
    /// A leaf that knows nobody yet; feed it with [`Self::handle_known`]. Equal seeds behave equally.
    #[must_use]
    pub fn new(seed: u64, now: Now) -> Self {
        Self {
            rng: Rng::new(seed),
            table: Table::default(),
            links: Vec::new(),
            recruiting: Recruiting::new(now.mono_ms),
            publishing: Publishing::new(),
            commands: VecDeque::new(),
            call_since_ms: None,
            stopped: false,
            beats_elsewhere: false,
        }
    }

    // ---- what happened ------------------------------------------------------------------------------------------

    /// Supernodes somebody told us of: bootstrap list, memory, referrals, answers to `AskSupernodes`.
    pub fn handle_known(&mut self, known: &[KnownPeer], now: Now) {
        let linked = self.linked();
        let mut news = false;
        for peer in known {
            news |= self.table.insert(peer, &linked, now.mono_ms);
        }
        if news {
            self.recruiting.heard_news(now.mono_ms);
        }
        self.drive(now);
    }

    /// Supernodes known from earlier runs, and what was measured of them. To be fed before anything else: the first
    /// choice is made by it. The homes of the last run are tried first: after a moment's pause they keep a place for
    /// this device, and where all start again at once, each finds its own instead of the same few.
    pub fn handle_remembered(&mut self, known: &[(KnownPeer, Remembered)], now: Now) {
        let linked = self.linked();
        for (peer, remembered) in known {
            self.table.insert(peer, &linked, now.mono_ms);
            self.table.remember(remembered);
        }
        for home in self.table.proven(HOMES, &mut self.rng) {
            self.recruiting.resume(home);
        }
        self.drive(now);
    }

    /// One round trip to a supernode took so long.
    pub fn handle_measured(&mut self, peer: PeerRef, rtt_ms: u32) {
        self.table.measured(peer, rtt_ms);
    }

    /// The load a supernode gives in its descriptor: one that is nearly full is chosen last.
    pub fn set_load(&mut self, peer: PeerRef, load_percent: u32) {
        self.table.set_load(peer, load_percent);
    }

    /// The home stream is open and hellos were exchanged. `rtt_ms`: round trip, where known.
    pub fn handle_opened(&mut self, peer: PeerRef, rtt_ms: Option<u32>, now: Now) {
        if let Some(rtt_ms) = rtt_ms {
            self.table.measured(peer, rtt_ms);
        }
        let Some(link) = self.link_mut(peer) else {
            // Given up meanwhile; the driver may not have heard of it yet.
            self.push(Command::Release(peer));
            return;
        };
        if link.state == LinkState::Opening {
            link.state = LinkState::Reserving;
            link.since_ms = now.mono_ms;
            self.push(Command::Reserve(peer));
            self.ask_newcomer(peer, now);
        }
        self.drive(now);
    }

    /// Home and circuit reservation are made. `heartbeat_ms` as the home asked for it.
    pub fn handle_reserved(&mut self, peer: PeerRef, heartbeat_ms: u32, now: Now) {
        let in_call = self.in_call();
        let Some(link) = self.link_mut(peer) else { return };
        if link.state != LinkState::Reserving {
            return;
        }
        link.state = LinkState::Reserved;
        link.since_ms = now.mono_ms;
        link.idle_beat_ms = heartbeat_ms.clamp(BEAT_MS_MIN, BEAT_MS_MAX);
        link.beat_ms = now.mono_ms + link.beat_interval_ms(in_call);
        self.table.succeeded(peer);
        self.recruiting.succeeded();
        let first = self.reserved().count() == 1;
        self.publishing.gained(first, now.mono_ms);
        self.drive(now);
    }

    /// A home answered a heartbeat (any frame from it will do).
    pub fn handle_heartbeat_answer(&mut self, peer: PeerRef, now: Now) {
        let in_call = self.in_call();
        if let Some(link) = self.link_mut(peer)
            && link.asked_ms.take().is_some()
        {
            link.beat_ms = now.mono_ms + link.beat_interval_ms(in_call);
        }
        self.drive(now);
    }

    /// A link never opened, or ended. Unknown peers are ignored.
    pub fn handle_closed(&mut self, peer: PeerRef, cause: Cause, now: Now) {
        if let Some(link) = self.take_link(peer) {
            if cause == Cause::Lost && link.may_resume(now.mono_ms) {
                self.recruiting.resume(peer);
            } else {
                self.table.failed(peer, &mut self.rng, now.mono_ms);
            }
            if cause == Cause::Incompatible {
                self.table.leave_alone(peer, now.mono_ms + INCOMPATIBLE_MS);
            }
            self.after_loss(&link, false, now);
        }
        self.drive(now);
    }

    /// The supernode refuses `Reserve` (or the stream itself) for now. It is not asked again before `retry_after_ms` (at most 15 minutes) have passed.
    pub fn handle_busy(&mut self, peer: PeerRef, retry_after_ms: u32, now: Now) {
        let retry_after_ms = u64::from(retry_after_ms.min(RETRY_AFTER_MS_MAX));
        // Everybody refused at one moment must not come back at one moment.
        let spread_ms = self.rng.below(retry_after_ms / 4 + 1_000);
        self.table.refused(peer, now.mono_ms + retry_after_ms + spread_ms);
        if let Some(link) = self.take_link(peer) {
            self.push(Command::Release(peer));
            self.after_loss(&link, true, now);
        }
        self.drive(now);
    }

    /// It was not dialled: this device contacted as many different supernodes in the last minute as it may. That says
    /// nothing of this one.
    pub fn handle_held_back(&mut self, peer: PeerRef, wait_ms: u64, now: Now) {
        if let Some(link) = self.take_link(peer) {
            debug_assert!(!link.is_home(), "a home needs no dial");
            let spread_ms = self.rng.below(recruit::LOSS_JITTER_MS);
            self.recruiting.hold_back(wait_ms.min(HELD_BACK_MS_MAX) + spread_ms, now.mono_ms);
        }
        self.drive(now);
    }

    /// A supernode answered `AskSupernodes` with `Busy`: nobody is asked again before.
    pub fn handle_ask_refused(&mut self, retry_after_ms: u32, now: Now) {
        let retry_after_ms = u64::from(retry_after_ms.min(RETRY_AFTER_MS_MAX));
        let spread_ms = self.rng.below(retry_after_ms / 4 + 1_000);
        self.recruiting.ask_later(now.mono_ms + retry_after_ms + spread_ms);
        self.drive(now);
    }

    /// The supernode will leave within `within_ms`: it is replaced first, released then.
    pub fn handle_drain(&mut self, peer: PeerRef, within_ms: u32, now: Now) {
        let within_ms = u64::from(within_ms.min(RETRY_AFTER_MS_MAX));
        // It will be gone for a while: do not come back the moment it is released.
        self.table.leave_alone(peer, now.mono_ms + within_ms + DRAINED_MS);
        // All its clients look for a new home now.
        let delay_ms = self.rng.below((within_ms / 2).min(DRAIN_JITTER_MS));
        self.leave(peer, now.mono_ms + within_ms, delay_ms, now);
        self.drive(now);
    }

    /// The home lied or left something out (see [`crate::lookup`]). It is replaced; a liar is never chosen again, one
    /// that was only behind is left alone for an hour and kept until there is a better one.
    pub fn handle_distrust(&mut self, peer: PeerRef, reason: Distrust, now: Now) {
        let until_ms = match reason {
            Distrust::Lied => {
                self.table.distrust(peer);
                now.mono_ms + LIAR_MS
            }
            Distrust::Behind | Distrust::Omitted => {
                self.table.leave_alone(peer, now.mono_ms + BEHIND_MS);
                self.table.served_badly(peer);
                u64::MAX
            }
        };
        let delay_ms = self.rng.below(recruit::LOSS_JITTER_MS);
        self.leave(peer, until_ms, delay_ms, now);
        self.drive(now);
    }

    /// A call began or ended: heartbeats every 2 s instead of 14 s.
    pub fn set_in_call(&mut self, in_call: bool, now: Now) {
        if self.in_call() != in_call {
            self.call_since_ms = in_call.then_some(now.mono_ms);
            self.beat_at_once(now);
        }
        self.drive(now);
    }

    /// This machine's network changed: every link is given up and made again at once.
    pub fn handle_network_changed(&mut self, now: Now) {
        for link in std::mem::take(&mut self.links) {
            self.push(Command::Release(link.peer));
            if link.state == LinkState::Reserved {
                self.publishing.lost(link.peer, &mut self.rng, now.mono_ms);
            }
        }
        self.table.forgive();
        self.recruiting.succeeded();
        self.recruiting.forget_resuming();
        self.recruiting.attempt_ms = now.mono_ms;
        self.drive(now);
    }

    /// The account's device set changed: the record is published anew at once.
    pub fn handle_record_changed(&mut self, now: Now) {
        self.publishing.changed(now.mono_ms);
        self.drive(now);
    }

    /// For ever: this device may have no homes any more (it was revoked).
    pub fn stop(&mut self) {
        for link in std::mem::take(&mut self.links) {
            self.push(Command::Release(link.peer));
        }
        self.stopped = true;
    }

    /// The record published through `via` was confirmed.
    pub fn handle_published(&mut self, via: PeerRef, now: Now) {
        for home in self.reserved().collect::<Vec<_>>() {
            self.table.served_well(home);
        }
        self.publishing.done(via, &mut self.rng, now.mono_ms);
        self.drive(now);
    }

    /// It was not. `retry_after_ms`: from a `Busy`, else 0.
    pub fn handle_publish_failed(&mut self, via: PeerRef, retry_after_ms: u32, now: Now) {
        let at_least_ms = u64::from(retry_after_ms.min(RETRY_AFTER_MS_MAX));
        self.publishing.failed(via, at_least_ms, &mut self.rng, now.mono_ms);
        self.drive(now);
    }

    /// A moment named by [`Self::poll_timeout`] came. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Now) {
        self.drive(now);
    }

    // ---- what to do ---------------------------------------------------------------------------------------------

    /// The next thing to do; drain it after every call.
    pub fn poll_command(&mut self) -> Option<Command> {
        let command = self.commands.pop_front();
        if self.commands.is_empty() {
            // An idle leaf keeps no empty queue.
            self.commands = VecDeque::new();
        }
        command
    }

    /// When to call [`Self::handle_timeout`] (monotonic, in milliseconds).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.stopped {
            return None;
        }
        let links = self.links.iter().filter_map(|link| self.link_timeout_ms(link)).min();
        let publish = (self.reserved().next().is_some()).then(|| self.publishing.timeout_ms()).flatten();
        [links, publish, self.recruiting.wake_ms, self.ask_timeout_ms()].into_iter().flatten().min()
    }

    // ---- how it stands ------------------------------------------------------------------------------------------

    /// Homes to be published and to be asked, at most [`HOMES`]; those being replaced last.
    pub fn reserved(&self) -> impl Iterator<Item = PeerRef> {
        let homes = |leaving: bool| {
            self.links.iter().filter(move |link| link.is_home() && link.is_leaving() == leaving)
        };
        homes(false).chain(homes(true)).map(|link| link.peer).take(HOMES)
    }

    /// Every link, by peer.
    pub fn links(&self) -> impl Iterator<Item = LinkInfo> {
        self.links.iter().map(|link| LinkInfo {
            peer: link.peer,
            state: link.state,
            leaving: link.is_leaving(),
        })
    }

    /// Somebody can reach this device: a home is reserved and the record was published.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.publishing.ever() && self.reserved().next().is_some()
    }

    /// Supernodes worth remembering on disk, and what was measured of them.
    pub fn remembered(&self) -> impl Iterator<Item = Remembered> {
        self.table.remembered()
    }

    /// What a supernode is, or would be, chosen by.
    #[must_use]
    pub fn standing(&self, peer: PeerRef) -> Option<Standing> {
        self.table.standing(peer)
    }

    /// Who would be tried in place of `home`, the best first. Which of them is tried is drawn by lot.
    #[must_use]
    pub fn replacements(&self, home: PeerRef, limit: usize, now: Now) -> Vec<Standing> {
        let linked: Vec<PeerRef> = self.linked().into_iter().filter(|peer| *peer != home).collect();
        let choice = Choice { linked: &linked, shared_network: false, release: Release::RatherOther };
        let mut next = self.table.next(&choice, limit + 1, now.mono_ms);
        next.retain(|standing| standing.peer != home);
        next.truncate(limit);
        next
    }

    /// The network of a known supernode.
    #[must_use]
    pub fn network_of(&self, peer: PeerRef) -> Option<u32> {
        self.table.get(peer).map(|entry| entry.network)
    }

    // ---- inside -------------------------------------------------------------------------------------------------

    fn in_call(&self) -> bool {
        self.call_since_ms.is_some()
    }

    /// Brings everything up to `now`.
    fn drive(&mut self, now: Now) {
        if self.stopped || self.commands.len() >= COMMANDS_MAX {
            return;
        }
        self.give_up_late_links(now);
        self.beat(now);
        self.retire(now);
        self.ask(now);
        self.recruit(now);
        if let Some(via) = self.poll_publishing(now) {
            self.push(Command::Publish { via });
        }
    }

    fn poll_publishing(&mut self, now: Now) -> Option<PeerRef> {
        let homes = self.links.iter().filter(|link| link.is_home()).map(|link| link.peer);
        self.publishing.poll(homes, &mut self.rng, now.mono_ms)
    }

    fn give_up_late_links(&mut self, now: Now) {
        let call_since_ms = self.call_since_ms;
        let late = |link: &Link| {
            link.deadline_ms(call_since_ms).is_some_and(|deadline_ms| now.mono_ms >= deadline_ms)
        };
        while let Some(at) = self.links.iter().position(late) {
            self.give_up(at, now);
        }
    }

    fn link_timeout_ms(&self, link: &Link) -> Option<u64> {
        let beats = !self.beats_elsewhere
            && link.state == LinkState::Reserved
            && (link.asked_ms.is_none() || self.in_call());
        let leaving = match link.leaving {
            Leaving::By(until_ms) if until_ms < u64::MAX => Some(until_ms),
            Leaving::By(_) | Leaving::No => None,
        };
        [link.deadline_ms(self.call_since_ms), beats.then_some(link.beat_ms), leaving]
            .into_iter()
            .flatten()
            .min()
    }

    /// Releases what is no longer wanted: homes being replaced, homes too many, attempts that came too late.
    fn retire(&mut self, now: Now) {
        let enough = self.settled() >= HOMES;
        let done = |link: &Link| match link.leaving {
            Leaving::By(until_ms) => enough || now.mono_ms >= until_ms,
            Leaving::No => false,
        };
        while let Some(at) = self.links.iter().position(done) {
            let link = self.links.remove(at);
            self.release(link.peer, now);
            if link.is_home() {
                self.publishing.lost(link.peer, &mut self.rng, now.mono_ms);
            }
        }
        while self.settled() > HOMES {
            let surplus = self.surplus();
            self.take_link(surplus);
            self.release(surplus, now);
            self.publishing.lost(surplus, &mut self.rng, now.mono_ms);
        }
        if self.settled() >= HOMES && !self.shares_network() && !self.shares_release() {
            while let Some(at) = self.links.iter().position(Link::in_progress) {
                let link = self.links.remove(at);
                self.release(link.peer, now);
            }
        }
    }

    fn release(&mut self, peer: PeerRef, now: Now) {
        self.table.leave_alone(peer, now.mono_ms + RELEASED_MS);
        self.push(Command::Release(peer));
    }

    /// Which of too many homes to let go: one that shares its network, else one of those that run what three others
    /// run or more, else the youngest.
    fn surplus(&self) -> PeerRef {
        let shares = |link: &Link| {
            let network = self.network_of(link.peer);
            self.links.iter().any(|other| {
                other.peer != link.peer && other.is_settled() && self.network_of(other.peer) == network
            })
        };
        let settled = || self.links.iter().filter(|link| link.is_settled());
        let common = |link: &Link| {
            let release = self.table.release_of(link.peer);
            let same = settled().filter(|other| self.table.release_of(other.peer) == release).count();
            release != RELEASE_UNKNOWN && same >= HOMES
        };
        let youngest = settled().max_by_key(|link| (shares(link), common(link), link.since_ms, link.peer));
        youngest.map(|link| link.peer).expect("called with more homes than wanted")
    }

    fn leave(&mut self, peer: PeerRef, until_ms: u64, delay_ms: u64, now: Now) {
        if let Some(link) = self.link_mut(peer) {
            link.leaving = Leaving::By(until_ms);
            self.recruiting.hold_back(delay_ms, now.mono_ms);
        }
    }

    /// When to try again after a link ended: soon and spread for one, later and later when nothing works.
    fn after_loss(&mut self, link: &Link, refused: bool, now: Now) {
        if link.is_home() {
            self.publishing.lost(link.peer, &mut self.rng, now.mono_ms);
            if !link.is_leaving() {
                self.table.served_badly(link.peer);
            }
        }
        let delay_ms = if link.is_home() && self.settled() > 0 {
            self.rng.below(recruit::LOSS_JITTER_MS)
        } else {
            // Losing all homes at once means that something big happened: do not be part of a stampede.
            let since_ms = if link.is_home() { now.mono_ms } else { link.since_ms };
            let wait_ms_max = self.wait_ms_max(refused, now.mono_ms);
            self.recruiting.failed(since_ms, wait_ms_max, &mut self.rng, now.mono_ms)
        };
        self.recruiting.hold_back(delay_ms, now.mono_ms);
        self.ask_sooner(link.is_home(), now.mono_ms);
    }

    /// Homes that are meant to stay.
    fn settled(&self) -> usize {
        self.links.iter().filter(|link| link.is_settled()).count()
    }

    /// A driver that does not drain loses commands rather than memory.
    fn push(&mut self, command: Command) {
        if self.commands.len() < 2 * COMMANDS_MAX {
            self.commands.push_back(command);
        }
    }

    fn linked(&self) -> Vec<PeerRef> {
        self.links.iter().map(|link| link.peer).collect()
    }

    fn link_mut(&mut self, peer: PeerRef) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.peer == peer)
    }

    fn take_link(&mut self, peer: PeerRef) -> Option<Link> {
        self.links.iter().position(|link| link.peer == peer).map(|at| self.links.remove(at))
    }
}

const _: () = assert!(IDLE_BEAT_MS <= BEAT_MS_MAX as u64);
