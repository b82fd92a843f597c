//! Volunteers: their lives, what they know of each other, and the election among them, which is `tandem_core::election`'s.

use tandem_core::admission::Admission;
use tandem_core::election::{Candidacy, Command, Config, Invitation, Sighted, State};
use tandem_core::peer::PeerRef;
use tandem_proto::signed::Roles;

use super::leaves::NOBODY;
use super::volunteer::{Acquaintance, Character, Health, Manner, NEVER};
use super::{Event, SECOND_MS, World};
use crate::geography;
use crate::policy::{LeafPolicy, SupernodeRules};
use crate::wheel::Ms;

/// Other supernodes that one knows of; streams that it opens; those that a reserve watches.
const KNOWN: usize = 256;
const STREAMS: usize = 12;
const WATCHED: usize = 6;
const DIALS_AT_ONCE: usize = 4;
/// A descriptor is signed anew when the load moved, and when it is old; it takes so long to come round, and ends.
const RESIGN_LOAD_MS: Ms = 60_000;
const RESIGN_MS: Ms = 30 * 60_000;
const ROUND_MS: Ms = 20_000;
const DESCRIPTOR_LIFE_MS: Ms = 3 * 3_600_000;
/// Nothing is heard for this long: the other is gone.
const IDLE_MS: Ms = 30_000;
/// Uptime asked of those who want to serve, checks included (`tandem_core::election::Requirements`).
const ELIGIBLE_MS: Ms = 31 * 60_000;
/// A supernode looks about so often, when nothing happens; a reserve.
const LOOK_MS: Ms = 10_000;
const WATCH_MS: Ms = 30_000;
const SIGHT_MS: Ms = 20_000;
const INVITATION_MS: u64 = 60_000;
/// Nobody answers a question: given up after this.
const SILENT_MS: Ms = 10_000;
/// A volunteer's machine is off for about this long between two sessions.
const OFF_MS: u64 = 4 * 3_600_000;
/// Of volunteers that end, in per cent: those that drain first, and those whose machine vanishes.
const DRAINS_PERCENT: u64 = 20;
const VANISHES_PERCENT: u64 = 15;
/// A Sybil attacker has so many networks.
const SYBIL_NETWORKS: u64 = 4;

/// What one volunteer tells another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Announce,
    /// `value`: the load of who invites.
    Invite,
    /// `value`: 1 for yes.
    Answer,
    AskLoad,
    /// `value`: in per cent.
    Load,
    NoLoad,
}

impl<P: LeafPolicy> World<P> {
    // ---- the beginning ----------------------------------------------------------------------------------------------

    /// Those that serve as the world begins, reserves, and nodes whose owners agreed to nothing.
    pub(super) fn found(&mut self) {
        let plan = self.scenario.supernodes;
        let online = self.scenario.nodes / 100 * self.scenario.people.online_at_start_percent;
        let homes = if P::SUPERNODES == SupernodeRules::Shed { 3 } else { 1 };
        let places = plan.places * plan.full_at_start_percent / 100;
        let first = (online * homes).div_ceil(places.max(1)).max(12);
        let reserves = first * plan.reserves_percent / 100;
        // While some are up, as many others of those who come and go are off.
        let off = if plan.churn { (first + reserves) / 2 } else { 0 };
        let unwilling = (first + reserves) * plan.unwilling_percent / 100;
        for number in 0..first + reserves + off + unwilling {
            let consents = number < first + reserves + off;
            self.add_volunteer(consents, number < first);
            if number < first {
                self.volunteer_comes(number);
                self.begin_to_serve_at_once(number);
            } else if number < first + reserves || !consents {
                self.volunteer_comes(number);
                // They were up before the world began.
                let life = self.volunteers[number as usize].life;
                let after_ms = self.rng.below(60_000) as Ms;
                self.push_in(after_ms, Event::Eligible { life, volunteer: number });
            } else {
                let after_ms = geography::exponential_ms(OFF_MS, &mut self.rng);
                self.push_at(after_ms, Event::Come(number));
            }
        }
        for number in 0..first {
            let life = self.volunteers[number as usize].life;
            self.volunteer_listed(number, life);
        }
    }

    fn add_volunteer(&mut self, consents: bool, founds: bool) {
        let plan = self.scenario.supernodes;
        let rng = &mut self.rng;
        let place = geography::Place { region: geography::region(rng), access_ms: geography::access_ms(rng) };
        let mut draw = rng.below(100) as u32;
        let manners = [
            (plan.slow_percent, Manner::Slow),
            (plan.lying_percent, Manner::Lying),
            (plan.freeloading_percent, Manner::Freeloading),
            (plan.hoarding_percent, Manner::Hoarding),
            (plan.sybil_percent, Manner::Sybil),
        ];
        let mut manner = Manner::Honest;
        for (percent, other) in manners {
            if draw < percent {
                manner = other;
                break;
            }
            draw -= percent;
        }
        // An attacker's addresses are in a few places; others' are anywhere.
        let network = match manner {
            Manner::Sybil => self.leaves.networks + rng.below(SYBIL_NETWORKS) as u32,
            _ => rng.below(u64::from(self.leaves.networks)) as u32,
        };
        let release = if rng.below(100) < u64::from(plan.new_release_percent) { 2 } else { 1 };
        let port_443 = rng.below(3) == 0;
        let character = Character { place, network, release, port_443, manner, consents, founds };
        let now = self.now();
        self.volunteers.push(super::volunteer::Volunteer::new(character, now));
    }

    /// Without an election: there is nobody yet who could hold one. They see nobody, and so promote themselves.
    fn begin_to_serve_at_once(&mut self, number: u32) {
        let now = self.now();
        let roles = self.roles();
        let candidacy = &mut self.volunteers[number as usize].candidacy;
        candidacy.handle_roles(roles, roles, now);
        candidacy.handle_sight(&[], now);
        for second in 1..=120 {
            candidacy.handle_timeout(now.plus_ms(second * 1_000));
            if candidacy.state() == State::Supernode {
                break;
            }
        }
        self.volunteers[number as usize].eligible = true;
        self.take_steps(number);
    }

    fn roles(&self) -> Roles {
        Roles(Roles::DIRECTORY.0 | Roles::RELAY.0)
    }

    // ---- lives ------------------------------------------------------------------------------------------------------

    pub(super) fn volunteer_comes(&mut self, number: u32) {
        let now = self.now();
        let seed = self.rng.next_u64();
        let volunteer = &mut self.volunteers[number as usize];
        if volunteer.health == Health::Up {
            return;
        }
        volunteer.health = Health::Up;
        volunteer.life = volunteer.life.wrapping_add(1);
        volunteer.candidacy = Candidacy::new(Config::default(), seed, now);
        volunteer.eligible = false;
        (volunteer.serves, volunteer.drains) = (false, false);
        volunteer.overloaded = None;
        let life = volunteer.life;
        if self.scenario.supernodes.churn {
            let for_ms = geography::supernode_session_ms(&mut self.rng);
            // Those that are there as the world begins have been there for a while, and stay for the rest.
            let left_ms = if now.mono_ms == 0 { self.rng.below(for_ms) } else { for_ms };
            self.push_at(now.mono_ms + left_ms, Event::Leave { life, volunteer: number });
        }
        // Under the old rules whoever could serve did.
        let ripe_ms = if P::SUPERNODES == SupernodeRules::Shed { ELIGIBLE_MS } else { SECOND_MS };
        self.push_in(ripe_ms, Event::Eligible { life, volunteer: number });
        self.fails_at_start(number);
    }

    fn lives(&self, number: u32, life: u16) -> bool {
        let volunteer = &self.volunteers[number as usize];
        volunteer.life == life && volunteer.health == Health::Up
    }

    pub(super) fn volunteer_eligible(&mut self, number: u32, life: u16) {
        let volunteer = &mut self.volunteers[number as usize];
        if volunteer.life != life
            || volunteer.health != Health::Up
            || volunteer.eligible
            || !volunteer.consents
        {
            return;
        }
        volunteer.eligible = true;
        if P::SUPERNODES == SupernodeRules::ShutDown {
            if volunteer.founds {
                self.begin_to_serve(number);
            }
            return;
        }
        let (now, roles) = (self.now(), self.roles());
        self.volunteers[number as usize].candidacy.handle_roles(roles, roles, now);
        self.take_steps(number);
        self.look_soon(number);
    }

    pub(super) fn volunteer_leaves(&mut self, number: u32, life: u16) {
        if !self.lives(number, life) {
            return;
        }
        let draw = self.rng.below(100);
        let now = self.now();
        if draw < DRAINS_PERCENT && self.volunteers[number as usize].serves {
            // The owner takes consent back, and waits for the drain.
            self.volunteers[number as usize].candidacy.handle_roles(Roles::default(), Roles::default(), now);
            self.take_steps(number);
            self.push_in(90_000, Event::Leave { life, volunteer: number });
            return;
        }
        self.kill(number, draw >= 100 - VANISHES_PERCENT);
        let off_ms = geography::exponential_ms(OFF_MS, &mut self.rng);
        self.push_at(now.mono_ms + off_ms, Event::Come(number));
    }

    /// Its process ends, or the machine vanishes without a word.
    pub(super) fn kill(&mut self, number: u32, vanishes: bool) {
        let now = self.wheel.now();
        self.stop_serving(number, vanishes);
        let volunteer = &mut self.volunteers[number as usize];
        volunteer.health = if vanishes { Health::Vanished } else { Health::Killed };
        volunteer.life = volunteer.life.wrapping_add(1);
        volunteer.died = now;
        volunteer.eligible = false;
        volunteer.due = NEVER;
        let others: Vec<u32> = volunteer.out.drain(..).collect();
        let inward = std::mem::take(&mut volunteer.inward);
        let after_ms = if vanishes { IDLE_MS } else { 100 };
        for by in others.into_iter().chain(inward) {
            self.push_in(after_ms, Event::Missed { by, gone: number });
        }
    }

    fn stop_serving(&mut self, number: u32, silently: bool) {
        let at = number as usize;
        if !self.volunteers[at].serves {
            return;
        }
        self.volunteers[at].serves = false;
        if !std::mem::replace(&mut self.volunteers[at].drains, false) {
            self.note_dead();
        }
        let place = self.volunteers[at].at_serving as usize;
        self.serving.swap_remove(place);
        if let Some(&moved) = self.serving.get(place) {
            self.volunteers[moved as usize].at_serving = place as u32;
        }
        self.end_connections(number, silently);
        self.relay_gone(number);
    }

    pub(super) fn volunteer_drained(&mut self, number: u32, life: u16) {
        if !self.lives(number, life) || !self.volunteers[number as usize].drains {
            return;
        }
        self.stop_serving(number, false);
        let now = self.now();
        let volunteer = &mut self.volunteers[number as usize];
        volunteer.listed = NEVER;
        volunteer.candidacy.handle_drained(now);
        self.take_steps(number);
        self.look_soon(number);
    }

    // ---- what they know of each other -------------------------------------------------------------------------------

    fn begin_to_serve(&mut self, number: u32) {
        let now = self.wheel.now();
        let at = number as usize;
        if !self.volunteers[at].consents {
            self.measures.broke(
                now,
                "consent",
                format!("{number} begins to serve, and its owner did not agree"),
            );
        }
        if self.volunteers[at].serves {
            return;
        }
        let requests_per_second = self.scenario.supernodes.requests_per_second;
        self.volunteers[at].at_serving = self.serving.len() as u32;
        self.serving.push(number);
        let known: Vec<u32> = (0..KNOWN).map(|_| self.serving[self.rng.index(self.serving.len())]).collect();
        let volunteer = &mut self.volunteers[at];
        volunteer.serves = true;
        volunteer.admission = Admission::new(requests_per_second, u64::from(now));
        (volunteer.signed, volunteer.told) = ((0, now), (0, now));
        volunteer.known.retain(|known| known.met);
        for other in known {
            volunteer.note(other, number);
        }
        volunteer.out.clear();
        let life = volunteer.life;
        let comes_round_ms = ROUND_MS / 4 + self.rng.below(u64::from(ROUND_MS)) as Ms;
        self.push_in(comes_round_ms, Event::Listed { life, volunteer: number });
        self.look_soon(number);
    }

    /// Others hear of it: as many as know of any supernode.
    pub(super) fn volunteer_listed(&mut self, number: u32, life: u16) {
        if !self.lives(number, life) || !self.volunteers[number as usize].serves {
            return;
        }
        self.volunteers[number as usize].listed = self.wheel.now();
        for _ in 0..KNOWN.min(self.serving.len()) {
            let other = self.serving[self.rng.index(self.serving.len())];
            if other != number {
                self.volunteers[other as usize].note(number, other);
            }
        }
    }

    pub(super) fn miss(&mut self, by: u32, gone: u32) {
        let now = self.wheel.now();
        let volunteer = &mut self.volunteers[by as usize];
        volunteer.out.retain(|other| *other != gone);
        volunteer.inward.retain(|other| *other != gone);
        for known in volunteer.known.iter_mut().filter(|known| known.volunteer == gone) {
            known.missed = Some(now);
        }
        if volunteer.health == Health::Up {
            self.look_soon(by);
        }
    }

    // ---- looking about ----------------------------------------------------------------------------------------------

    /// It looks about within a second.
    pub(super) fn look_soon(&mut self, number: u32) {
        let at = self.wheel.now() + SECOND_MS;
        self.look_at(number, at);
    }

    fn look_at(&mut self, number: u32, at: Ms) {
        if at < self.volunteers[number as usize].due {
            self.volunteers[number as usize].due = at;
            self.push_at(u64::from(at), Event::Tick(number));
        }
    }

    pub(super) fn tick(&mut self, number: u32) {
        let now = self.now();
        let at = number as usize;
        if self.volunteers[at].due != self.wheel.now() {
            return;
        }
        self.volunteers[at].due = NEVER;
        if self.volunteers[at].health != Health::Up || !self.volunteers[at].eligible {
            return;
        }
        let changed = self.look_for_others(number);
        if self.volunteers[at].serves {
            self.keep_house(number);
        }
        if changed || now.mono_ms as Ms >= self.volunteers[at].sighted + SIGHT_MS {
            self.volunteers[at].sighted = now.mono_ms as Ms;
            let volunteer = &self.volunteers[at];
            let seen: Vec<Sighted> =
                volunteer.out.iter().chain(&volunteer.inward).map(|other| self.sighted(*other)).collect();
            self.volunteers[at].candidacy.handle_sight(&seen, now);
        }
        self.volunteers[at].candidacy.handle_timeout(now);
        self.take_steps(number);
        let volunteer = &self.volunteers[at];
        let usual = if volunteer.serves { LOOK_MS } else { WATCH_MS };
        let wanted = volunteer.candidacy.poll_timeout().map_or(NEVER, |ms| Ms::try_from(ms).unwrap_or(NEVER));
        let lacking =
            volunteer.out.len() < if volunteer.serves { STREAMS.min(self.serving.len() / 2) } else { 1 };
        let soonest = self.wheel.now() + SECOND_MS;
        let next = (self.wheel.now() + if lacking { 2 * SECOND_MS } else { usual }).min(wanted).max(soonest);
        self.look_at(number, next);
    }

    /// What a supernode does now and then.
    fn keep_house(&mut self, number: u32) {
        let now = self.now();
        let now_ms = now.mono_ms as Ms;
        let plan = self.scenario.supernodes;
        let volunteer = &mut self.volunteers[number as usize];
        volunteer.places.forget_expired(now.mono_ms);
        let load_percent = volunteer.load_percent(plan.places, plan.calls);
        let moved = load_percent != volunteer.signed.0 && now_ms >= volunteer.signed.1 + RESIGN_LOAD_MS;
        if moved || now_ms >= volunteer.signed.1 + RESIGN_MS {
            volunteer.signed = (load_percent, now_ms);
        }
        if now_ms >= volunteer.signed.1 + ROUND_MS {
            volunteer.told = volunteer.signed;
        }
        volunteer.candidacy.handle_load(load_percent, now);
        let no_place = std::mem::take(&mut volunteer.no_place);
        if no_place > 0 {
            volunteer.candidacy.handle_no_place(no_place, now);
        }
        if volunteer.drains && volunteer.places.is_empty() && volunteer.calls.is_empty() {
            let life = volunteer.life;
            self.volunteer_drained(number, life);
        }
        if now_ms >= self.volunteers[number as usize].pruned + 600_000 {
            self.prune(number);
        }
    }

    /// Descriptors end.
    fn prune(&mut self, number: u32) {
        let now = self.wheel.now();
        let mut known = std::mem::take(&mut self.volunteers[number as usize].known);
        known.retain(|known| {
            let other = &self.volunteers[known.volunteer as usize];
            other.is_up() || now < other.signed.1 + DESCRIPTOR_LIFE_MS
        });
        self.volunteers[number as usize].known = known;
        self.volunteers[number as usize].pruned = now;
    }

    /// Streams to others, a few dials at a time. True: something changed.
    fn look_for_others(&mut self, number: u32) -> bool {
        let at = number as usize;
        let serves = self.volunteers[at].serves;
        let before = self.volunteers[at].out.len();
        let now = self.wheel.now();
        let mut out = std::mem::take(&mut self.volunteers[at].out);
        if !serves {
            // It asks them now and then, and asks others when homes of its own are gone.
            out.retain(|&other| {
                let other = &self.volunteers[other as usize];
                other.is_up()
                    || now
                        < other.died + if other.health == Health::Killed { IDLE_MS / 2 } else { 2 * IDLE_MS }
            });
        }
        let mut changed = out.len() != before;
        let wanted = if serves { STREAMS } else { WATCHED };
        for _ in 0..DIALS_AT_ONCE {
            if out.len() >= wanted || self.serving.is_empty() {
                break;
            }
            let Some(other) = self.somebody(number) else { break };
            if other == number || out.contains(&other) {
                continue;
            }
            if self.volunteers[other as usize].is_up() && !self.volunteers[other as usize].drains {
                out.push(other);
                changed = true;
                if serves {
                    self.volunteers[other as usize].inward.push(number);
                    self.volunteers[other as usize].meet(number, other);
                    self.volunteers[at].meet(other, number);
                }
            } else {
                let known = self.volunteers[at].known.iter_mut().find(|known| known.volunteer == other);
                if let Some(known) = known {
                    known.missed = Some(now);
                }
            }
        }
        self.volunteers[at].out = out;
        changed
    }

    /// Whom it might dial: somebody it knows; a reserve hears of those that serve by its own device.
    fn somebody(&mut self, number: u32) -> Option<u32> {
        let volunteer = &self.volunteers[number as usize];
        if !volunteer.serves || volunteer.known.len() < STREAMS {
            return Some(self.serving[self.rng.index(self.serving.len())]);
        }
        for _ in 0..8 {
            let drawn = volunteer.known[self.rng.index(volunteer.known.len())];
            if !self.volunteers[drawn.volunteer as usize].is_missed(drawn.missed) {
                return Some(drawn.volunteer);
            }
        }
        None
    }

    fn sighted(&self, number: u32) -> Sighted {
        let volunteer = &self.volunteers[number as usize];
        Sighted {
            peer: PeerRef(number),
            network: volunteer.network,
            roles: Roles(Roles::DIRECTORY.0 | Roles::RELAY.0),
            load_percent: volunteer.told.0,
        }
    }

    // ---- the election -----------------------------------------------------------------------------------------------

    /// Does what the policy of a volunteer wants.
    fn take_steps(&mut self, number: u32) {
        while let Some(step) = self.volunteers[number as usize].candidacy.poll_command() {
            match step {
                Command::Serve { .. } => self.begin_to_serve(number),
                Command::Announce(to) => self.send(number, to.0, Message::Announce, 0),
                Command::Invite(to) => {
                    let plan = self.scenario.supernodes;
                    let load = self.volunteers[number as usize].load_percent(plan.places, plan.calls);
                    self.send(number, to.0, Message::Invite, load);
                }
                Command::AskLoad(of) => self.send(number, of.0, Message::AskLoad, 0),
                Command::AnswerInvitation { to, accepted } => {
                    self.send(number, to.0, Message::Answer, u32::from(accepted));
                }
                Command::Drain { within_ms, .. } => self.begin_to_drain(number, within_ms),
            }
        }
    }

    fn begin_to_drain(&mut self, number: u32, within_ms: u32) {
        let volunteer = &mut self.volunteers[number as usize];
        let life = volunteer.life;
        if !volunteer.drains {
            volunteer.drains = true;
            // Others are told, and dial it no more.
            let inward = std::mem::take(&mut volunteer.inward);
            for by in inward {
                self.push_in(100, Event::Missed { by, gone: number });
            }
            self.tell_to_leave(number, within_ms);
            self.relay_drains(number);
        }
        self.push_in(within_ms, Event::Drained { life, volunteer: number });
    }

    fn send(&mut self, from: u32, to: u32, message: Message, value: u32) {
        let (here, there) = (self.volunteers[from as usize].place, self.volunteers[to as usize].place);
        if self.are_connected(here.region, there.region) {
            // It connects first.
            let after_ms = 3 * self.one_way_ms(here, there);
            self.push_in(after_ms, Event::Message { message, from, to, value });
        }
    }

    pub(super) fn message(&mut self, from: u32, to: u32, message: Message, value: u32) {
        let now = self.now();
        let (sender, network) = (PeerRef(from), self.volunteers[from as usize].network);
        let plan = self.scenario.supernodes;
        let volunteer = &mut self.volunteers[to as usize];
        if volunteer.health != Health::Up {
            if message == Message::AskLoad {
                let after_ms = if volunteer.health == Health::Killed { 100 } else { SILENT_MS };
                self.push_in(
                    after_ms,
                    Event::Message { message: Message::NoLoad, from: to, to: from, value: 0 },
                );
            }
            return;
        }
        let serves = volunteer.serves && !volunteer.drains;
        let candidacy = &mut volunteer.candidacy;
        match message {
            Message::Announce if serves => {
                candidacy.handle_announce(sender, network, now);
            }
            Message::Announce => {}
            Message::Invite => {
                let not_after_unix_ms = now.unix_ms + INVITATION_MS;
                candidacy.handle_invitation(
                    &Invitation { from: sender, load_percent: value, not_after_unix_ms },
                    now,
                );
            }
            Message::Answer => candidacy.handle_invitation_answer(sender, value == 1),
            Message::AskLoad => {
                let load = volunteer.load_percent(plan.places, plan.calls);
                let answer = if serves { Message::Load } else { Message::NoLoad };
                self.send(to, from, answer, load);
            }
            Message::Load => candidacy.handle_load_answer(sender, Some(value), now),
            Message::NoLoad => candidacy.handle_load_answer(sender, None, now),
        }
        self.take_steps(to);
        let wanted = self.volunteers[to as usize].candidacy.poll_timeout();
        if let Some(wanted) = wanted.and_then(|ms| Ms::try_from(ms).ok()) {
            self.look_at(to, wanted.max(self.wheel.now() + SECOND_MS));
        }
    }
}

impl super::volunteer::Volunteer {
    /// It hears of another, which makes the place of one that is missed, or of one it never met, if there is none.
    fn note(&mut self, other: u32, own: u32) {
        if other == own || other == NOBODY || self.known.iter().any(|known| known.volunteer == other) {
            return;
        }
        let new = Acquaintance { volunteer: other, met: false, missed: None };
        if self.known.len() < KNOWN {
            self.known.push(new);
            return;
        }
        // From somewhere in the list, so that it is not always the same place that is lost.
        let from = other as usize % self.known.len();
        let (before, after) = self.known.split_at_mut(from);
        let old = after.iter_mut().chain(before).find(|known| known.missed.is_some() || !known.met);
        if let Some(old) = old {
            *old = new;
        }
    }

    fn meet(&mut self, other: u32, own: u32) {
        self.note(other, own);
        for known in self.known.iter_mut().filter(|known| known.volunteer == other) {
            (known.met, known.missed) = (true, None);
        }
    }
}
