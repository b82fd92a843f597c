//! What this node is: plain, reserve, supernode, draining; and when it becomes something else.

use std::collections::VecDeque;

use tandem_proto::signed::Roles;

use super::confirming::{Confirming, Outcome};
use super::reserves::Reserves;
use super::sight::{ENOUGH_IN_SIGHT, Sight, Sighted};
use crate::backoff::TokenBucket;
use crate::peer::PeerRef;
use crate::rng::Rng;
use crate::time::Now;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// From this load on, of its capacity, a supernode recruits …
const RECRUIT_PERCENT: u32 = 70;
/// … until it falls below this.
const RECRUIT_PERCENT_END: u32 = 60;
/// Others with the same load do the same: each waits a random part of this first …
const RECRUIT_SPREAD_MS: u64 = 2 * MINUTE_MS;
/// … and of this, from [`URGENT_PERCENT`] on.
const RECRUIT_SPREAD_URGENT_MS: u64 = 15_000;
const URGENT_PERCENT: u32 = 90;
/// Invitations: one in this time …
const INVITE_EVERY_MS: u64 = HOUR_MS;
/// … or in this one, as long as devices find no place here, so many since the last …
const INVITE_AGAIN_MS: u64 = MINUTE_MS;
const NO_PLACE_MIN: u32 = 3;
/// … one of them so lately …
const NO_PLACE_MS: u64 = MINUTE_MS / 2;
/// … and those in sight are loaded as much as this: with less, devices can be sent to them.
const OTHERS_PERCENT: u32 = 50;
/// No reserve is known: look again after about this.
const NO_RESERVE_MS: u64 = 30_000;

/// Below this load …
const IDLE_PERCENT: u32 = 20;
/// … for this long, give or take a quarter, a supernode may leave …
const IDLE_MS: u64 = 2 * HOUR_MS;
/// … if those in sight are loaded no more than this …
const TAKEN_OVER_PERCENT: u32 = 50;
/// … and then in each such slot with this chance (one in so many): they must not all leave together.
const IDLE_SLOT_MS: u64 = 10 * MINUTE_MS;
const IDLE_CHANCE: u64 = 8;
/// Time given to clients and calls to move: when nobody is in a hurry, and when the owner is.
const DRAIN_UNNEEDED_MS: u32 = 10 * 60_000;
const DRAIN_OWNER_MS: u32 = 60_000;
/// After it left for want of work, a reserve lets others be invited for this long.
const REST_MS: u64 = 15 * MINUTE_MS;

/// A reserve announces itself to so many supernodes, in different networks …
const ANNOUNCED_TO: usize = 3;
const ANNOUNCED_MAX: usize = 12;
/// … this often, give or take a quarter; others are drawn each time.
const ANNOUNCE_MS: u64 = 40 * MINUTE_MS;
/// Nobody is in sight yet: look again.
const ANNOUNCE_AGAIN_MS: u64 = 10_000;
/// Most of those it told are not in sight any more: others are told after about this.
const ANNOUNCE_LOST_MS: u64 = 30_000;
/// So many of those it told are enough.
const ANNOUNCED_ENOUGH: usize = 2;

/// Self-promotion goes in slots of this length, give or take 40 % …
const SLOT_MS: u64 = 2_000;
/// … with a chance of 1 in 2 to this power in the first, doubling: of ten reserves or of ten thousand, a few come
/// first, and the others see them.
const FIRST_CHANCE_POWER: u32 = 6;

/// Invitations considered: so many at once, then one each [`CONSIDER_REFILL_MS`].
const CONSIDER_BURST: u32 = 3;
const CONSIDER_REFILL_MS: u32 = 10 * 60_000;
/// Commands waiting for the driver, at most.
const COMMANDS_MAX: usize = 32;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not eligible, or not willing.
    Plain,
    /// Eligible, and not needed.
    Reserve,
    Supernode,
    /// Leaves: takes nothing new, moves what it has.
    Draining,
}

/// Why a supernode drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leave {
    /// Long without work, while others have room.
    Unneeded,
    /// Consent withdrawn, caps or hours over, battery, or not reachable any more.
    NotAllowed,
}

/// What the driver must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Tell this supernode that this node is a reserve.
    Announce(PeerRef),
    /// Send this reserve an invitation signed by the service key. Answer: `handle_invitation_answer`, or nothing.
    Invite(PeerRef),
    /// Tell whoever sent an invitation what came of it.
    AnswerInvitation { to: PeerRef, accepted: bool },
    /// Ask this supernode for its load. Answer: `handle_load_answer`.
    AskLoad(PeerRef),
    /// Begin to serve in these roles, or serve in these from now on.
    Serve { roles: Roles },
    /// Drain. Answer: `handle_drained`. It may come again with less time.
    Drain { within_ms: u32, why: Leave },
}

/// An invitation whose signature was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invitation {
    pub from: PeerRef,
    /// The load it names.
    pub load_percent: u32,
    pub not_after_unix_ms: u64,
}

/// How a node begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Config {
    /// The owner started it to serve, whether it is needed or not: it waits for no invitation and does not leave for
    /// want of work.
    pub steady: bool,
}

/// Figures for metrics and for `tandem volunteer`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    pub invited: u64,
    /// Invitations that were accepted.
    pub accepted: u64,
    /// Times it began to serve: by invitation, and by itself because there were too few.
    pub recruited: u64,
    pub promoted_itself: u64,
    /// Invitations not considered: expired, from a supernode it does not know, for no load, too many, or to no reserve.
    pub invitations_ignored: u64,
    /// Invitations that the witnesses did not confirm.
    pub invitations_refused: u64,
    /// Messages that tried to make this node serve, stop or shun somebody.
    pub orders_ignored: u64,
    pub reserves_known: usize,
}

/// The machine. One a node.
#[derive(Debug, Clone)]
pub struct Candidacy {
    config: Config,
    rng: Rng,
    state: State,
    may_begin: Roles,
    may_keep: Roles,
    serving: Roles,
    leaving: Option<Leave>,
    sight: Sight,
    sight_told: bool,
    load_percent: u32,
    reserves: Reserves,
    confirming: Option<Confirming>,
    considered: TokenBucket,
    announce_ms: u64,
    /// To whom it announced itself last, and their networks.
    announced: VecDeque<(PeerRef, u32)>,
    rest_until_ms: u64,
    /// Too few in sight: the next slot, and its chance as a power of one half.
    slot: Option<(u64, u32)>,
    /// Too much to do: when to invite.
    recruit_ms: Option<u64>,
    invited_ms: Option<u64>,
    invited: Option<PeerRef>,
    /// Devices that found no place here since it last invited somebody, and when the last one did not.
    no_place: (u32, u64),
    /// Too little to do: when to think of leaving.
    idle_ms: Option<u64>,
    commands: VecDeque<Command>,
    figures: Figures,
}

impl Candidacy {
    /// A plain node. Equal seeds behave equally.
    #[must_use]
    pub fn new(config: Config, seed: u64, now: Now) -> Self {
        Self {
            config,
            rng: Rng::new(seed),
            state: State::Plain,
            may_begin: Roles::default(),
            may_keep: Roles::default(),
            serving: Roles::default(),
            leaving: None,
            sight: Sight::default(),
            sight_told: false,
            load_percent: 0,
            reserves: Reserves::default(),
            confirming: None,
            considered: TokenBucket::new(CONSIDER_BURST, CONSIDER_REFILL_MS, now.mono_ms),
            announce_ms: now.mono_ms,
            announced: VecDeque::new(),
            rest_until_ms: now.mono_ms,
            slot: None,
            recruit_ms: None,
            invited_ms: None,
            invited: None,
            no_place: (0, now.mono_ms),
            idle_ms: None,
            commands: VecDeque::new(),
            figures: Figures::default(),
        }
    }

    // ---- what happened --------------------------------------------------------------------------------------------

    /// [`super::Eligibility::roles`] and [`super::Eligibility::roles_to_keep`], whenever they may have changed.
    pub fn handle_roles(&mut self, may_begin: Roles, may_keep: Roles, now: Now) {
        (self.may_begin, self.may_keep) = (may_begin, may_keep);
        self.drive(now);
    }

    /// The supernodes that are alive and do not drain, this node excepted. Of one network two count.
    pub fn handle_sight(&mut self, sighted: &[Sighted], now: Now) {
        self.sight = Sight::new(sighted);
        self.sight_told = true;
        // Whoever serves is no reserve any more.
        self.reserves.forget_all(sighted.iter().map(|seen| seen.peer));
        self.drive(now);
    }

    /// This supernode's own load, 0 to 100 % of its capacity.
    pub fn handle_load(&mut self, load_percent: u32, now: Now) {
        self.load_percent = load_percent.min(100);
        self.drive(now);
    }

    /// So many devices wanted a home here and found no place, or one only because they had no home at all.
    pub fn handle_no_place(&mut self, devices: u32, now: Now) {
        self.no_place = (self.no_place.0.saturating_add(devices), now.mono_ms);
        self.drive(now);
    }

    /// A node says that it is a reserve. `network`: of the address it came from. Says whether it is remembered.
    pub fn handle_announce(&mut self, from: PeerRef, network: u32, now: Now) -> bool {
        let kept = self.state == State::Supernode && self.reserves.announce(from, network, now.mono_ms);
        self.drive(now);
        kept
    }

    /// An invitation came whose signature is valid.
    pub fn handle_invitation(&mut self, invitation: &Invitation, now: Now) {
        let announced = self.announced.iter().find(|(peer, _)| *peer == invitation.from);
        let inviter = announced.map(|(_, network)| *network);
        let inviter = inviter.or_else(|| self.sight.get(invitation.from).map(|seen| seen.network));
        let sound = self.state == State::Reserve
            && self.confirming.is_none()
            && now.mono_ms >= self.rest_until_ms
            && now.unix_ms <= invitation.not_after_unix_ms
            && invitation.load_percent >= RECRUIT_PERCENT;
        match inviter.filter(|_| sound && self.considered.take(now.mono_ms)) {
            Some(network) => self.confirming = Some(Confirming::new(invitation.from, network)),
            None => self.figures.invitations_ignored += 1,
        }
        self.drive(now);
    }

    /// A supernode told its load, or (`None`) would not. Answers to no question change nothing.
    pub fn handle_load_answer(&mut self, by: PeerRef, load_percent: Option<u32>, now: Now) {
        if let Some(confirming) = &mut self.confirming {
            confirming.answered(by, load_percent);
        }
        self.drive(now);
    }

    /// The reserve that was invited answers. It is counted only: one that declines is forgotten like one that is
    /// silent (it was when it was invited), and nobody else is invited before it is time.
    pub fn handle_invitation_answer(&mut self, by: PeerRef, accepted: bool) {
        if self.invited.take_if(|invited| *invited == by).is_some() && accepted {
            self.figures.accepted += 1;
        }
    }

    /// A message that wants to make this node serve or stop, or to make it shun somebody. The protocol knows none;
    /// it is counted, and has no effect.
    pub fn handle_order(&mut self) {
        self.figures.orders_ignored += 1;
    }

    /// The drain is over.
    pub fn handle_drained(&mut self, now: Now) {
        if self.state == State::Draining {
            if self.leaving == Some(Leave::Unneeded) {
                self.rest_until_ms = now.mono_ms + self.rng.around(REST_MS, 25);
            }
            self.leaving = None;
            self.serving = Roles::default();
            self.state = State::Plain;
        }
        self.drive(now);
    }

    /// A moment named by [`Self::poll_timeout`] came. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Now) {
        self.drive(now);
    }

    // ---- what to do -----------------------------------------------------------------------------------------------

    /// The next thing to do; drain it after every call.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`Self::handle_timeout`] (monotonic, in milliseconds).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        match self.state {
            State::Plain | State::Draining => None,
            State::Reserve => {
                let confirming = self.confirming.as_ref().and_then(Confirming::timeout_ms);
                let slot = self.slot.map(|(at_ms, _)| at_ms);
                [Some(self.announce_ms), slot, confirming].into_iter().flatten().min()
            }
            State::Supernode => [self.recruit_ms, self.idle_ms].into_iter().flatten().min(),
        }
    }

    // ---- how it stands --------------------------------------------------------------------------------------------

    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The roles it serves in now; none when it does not.
    #[must_use]
    pub fn serving(&self) -> Roles {
        self.serving
    }

    /// Fewer than [`ENOUGH_IN_SIGHT`] others keep the directory.
    #[must_use]
    pub fn sees_too_few(&self) -> bool {
        self.sight_told && self.sight.fewest(Roles::DIRECTORY) < ENOUGH_IN_SIGHT
    }

    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures { reserves_known: self.reserves.len(), ..self.figures }
    }

    // ---- inside ---------------------------------------------------------------------------------------------------

    fn drive(&mut self, now: Now) {
        if self.commands.len() >= COMMANDS_MAX {
            return;
        }
        if self.state == State::Plain && self.may_begin != Roles::default() {
            self.state = State::Reserve;
            self.slot = None;
        }
        match self.state {
            State::Plain => {}
            State::Reserve if self.may_begin == Roles::default() => {
                self.state = State::Plain;
                self.decline();
            }
            State::Reserve => self.drive_reserve(now),
            State::Supernode => self.drive_supernode(now),
            State::Draining => self.hurry(),
        }
    }

    fn drive_reserve(&mut self, now: Now) {
        if self.config.steady {
            self.serve();
            return;
        }
        self.announce(now);
        self.confirm(now);
        if self.state == State::Reserve {
            self.promote_itself(now);
        }
    }

    fn announce(&mut self, now: Now) {
        self.announce_sooner(now.mono_ms);
        if now.mono_ms < self.announce_ms {
            return;
        }
        let mut drawn: Vec<(u64, Sighted)> =
            self.sight.iter().map(|seen| (self.rng.next_u64(), *seen)).collect();
        drawn.sort_by_key(|(random, _)| *random);
        let mut networks: Vec<u32> = Vec::new();
        for (_, seen) in drawn {
            if networks.len() < ANNOUNCED_TO && !networks.contains(&seen.network) {
                networks.push(seen.network);
                self.announced.retain(|(peer, _)| *peer != seen.peer);
                self.announced.push_front((seen.peer, seen.network));
                self.commands.push_back(Command::Announce(seen.peer));
            }
        }
        self.announced.truncate(ANNOUNCED_MAX);
        let again_ms = if networks.is_empty() { ANNOUNCE_AGAIN_MS } else { ANNOUNCE_MS };
        self.announce_ms = now.mono_ms + self.rng.around(again_ms, 25);
    }

    /// Those it told may be gone: nobody would know of it.
    fn announce_sooner(&mut self, now_mono_ms: u64) {
        let told = self.announced.iter().take(ANNOUNCED_TO);
        let in_sight = told.filter(|(peer, _)| self.sight.get(*peer).is_some()).count();
        if !self.announced.is_empty() && in_sight < ANNOUNCED_ENOUGH.min(self.sight.networks()) {
            let soon_ms = now_mono_ms + ANNOUNCE_LOST_MS * 3 / 2;
            if self.announce_ms > soon_ms {
                self.announce_ms = now_mono_ms + self.rng.around(ANNOUNCE_LOST_MS, 50);
            }
        }
    }

    /// Takes the invitation under consideration further.
    fn confirm(&mut self, now: Now) {
        while let Some(confirming) = &mut self.confirming {
            match confirming.step(&self.sight, &mut self.rng, now.mono_ms) {
                Outcome::Ask(witness) => self.commands.push_back(Command::AskLoad(witness)),
                Outcome::Wait => return,
                Outcome::Confirmed => {
                    self.figures.recruited += 1;
                    self.serve();
                }
                Outcome::Refused => {
                    self.figures.invitations_refused += 1;
                    self.decline();
                }
            }
        }
    }

    fn decline(&mut self) {
        if let Some(confirming) = self.confirming.take() {
            self.commands.push_back(Command::AnswerInvitation { to: confirming.inviter, accepted: false });
        }
    }

    fn promote_itself(&mut self, now: Now) {
        if !self.sight_told || self.sight.fewest(self.may_begin) >= ENOUGH_IN_SIGHT {
            self.slot = None;
            return;
        }
        let Some((at_ms, power)) = self.slot else {
            self.slot = Some((now.mono_ms + self.rng.around(SLOT_MS, 40), FIRST_CHANCE_POWER));
            return;
        };
        if now.mono_ms < at_ms {
            return;
        }
        if self.rng.below(1 << power) == 0 {
            self.figures.promoted_itself += 1;
            self.serve();
        } else {
            self.slot = Some((now.mono_ms + self.rng.around(SLOT_MS, 40), power.saturating_sub(1)));
        }
    }

    fn serve(&mut self) {
        self.state = State::Supernode;
        self.serving = self.may_begin;
        self.load_percent = 0;
        (self.slot, self.recruit_ms, self.idle_ms) = (None, None, None);
        if let Some(confirming) = self.confirming.take() {
            self.commands.push_back(Command::AnswerInvitation { to: confirming.inviter, accepted: true });
        }
        self.commands.push_back(Command::Serve { roles: self.serving });
    }

    fn drive_supernode(&mut self, now: Now) {
        let roles = Roles(self.serving.0 & self.may_keep.0 | self.may_begin.0);
        if roles == Roles::default() {
            self.leave(Leave::NotAllowed);
            return;
        }
        if roles != self.serving {
            self.serving = roles;
            self.commands.push_back(Command::Serve { roles });
        }
        self.recruit(now);
        self.leave_if_idle(now);
    }

    fn recruit(&mut self, now: Now) {
        if self.load_percent < RECRUIT_PERCENT_END {
            self.recruit_ms = None;
        }
        if self.load_percent < RECRUIT_PERCENT {
            // Between the two it goes on with what it began, but begins nothing.
            self.recruit_ms = self.recruit_ms.filter(|at_ms| now.mono_ms < *at_ms);
            return;
        }
        let urgent = self.load_percent >= URGENT_PERCENT;
        let spread_ms = if urgent { RECRUIT_SPREAD_URGENT_MS } else { RECRUIT_SPREAD_MS };
        let from_ms = now.mono_ms.max(self.invite_not_before_ms(now.mono_ms));
        // What was planned before may be too early by now, or later than is allowed now.
        let planned = self.recruit_ms.filter(|at_ms| *at_ms <= from_ms + spread_ms);
        let Some(at_ms) = planned.filter(|at_ms| *at_ms >= from_ms || from_ms == now.mono_ms) else {
            self.recruit_ms = Some(from_ms + 1 + self.rng.below(spread_ms));
            return;
        };
        if now.mono_ms < at_ms {
            return;
        }
        let Some(reserve) = self.reserves.take(&mut self.rng, now.mono_ms) else {
            self.recruit_ms = Some(now.mono_ms + self.rng.around(NO_RESERVE_MS, 50));
            return;
        };
        self.figures.invited += 1;
        self.invited_ms = Some(now.mono_ms);
        self.no_place.0 = 0;
        self.recruit_ms = Some(self.invite_not_before_ms(now.mono_ms) + 1 + self.rng.below(spread_ms));
        self.invited = Some(reserve);
        self.commands.push_back(Command::Invite(reserve));
    }

    /// One invitation an hour does for a load that grows. It does not where supernodes die and devices look for a place in
    /// vain; then they come sooner, and still not faster than newcomers are found by those who need them.
    fn invite_not_before_ms(&self, now_mono_ms: u64) -> u64 {
        let Some(invited_ms) = self.invited_ms else { return now_mono_ms };
        let (devices, last_ms) = self.no_place;
        let pressing = devices >= NO_PLACE_MIN
            && now_mono_ms < last_ms + NO_PLACE_MS
            && self.load_percent >= URGENT_PERCENT
            && self.sight.median_load_percent() >= OTHERS_PERCENT;
        invited_ms + if pressing { INVITE_AGAIN_MS } else { INVITE_EVERY_MS }
    }

    fn leave_if_idle(&mut self, now: Now) {
        if self.load_percent >= IDLE_PERCENT || self.config.steady {
            self.idle_ms = None;
            return;
        }
        let Some(at_ms) = self.idle_ms else {
            self.idle_ms = Some(now.mono_ms + self.rng.around(IDLE_MS, 25));
            return;
        };
        if now.mono_ms < at_ms {
            return;
        }
        let others_can = self.sight.fewest(self.serving) >= ENOUGH_IN_SIGHT
            && self.sight.median_load_percent() <= TAKEN_OVER_PERCENT;
        if others_can && self.rng.below(IDLE_CHANCE) == 0 {
            self.leave(Leave::Unneeded);
        } else {
            self.idle_ms = Some(now.mono_ms + self.rng.around(IDLE_SLOT_MS, 25));
        }
    }

    fn leave(&mut self, why: Leave) {
        self.state = State::Draining;
        self.leaving = Some(why);
        (self.recruit_ms, self.idle_ms) = (None, None);
        self.reserves = Reserves::default();
        let within_ms = match why {
            Leave::Unneeded => DRAIN_UNNEEDED_MS,
            Leave::NotAllowed => DRAIN_OWNER_MS,
        };
        self.commands.push_back(Command::Drain { within_ms, why });
    }

    /// The owner withdraws while it leaves at leisure.
    fn hurry(&mut self) {
        let kept = self.serving.0 & self.may_keep.0 != 0;
        if self.leaving == Some(Leave::Unneeded) && !kept {
            self.leave(Leave::NotAllowed);
        }
    }
}
