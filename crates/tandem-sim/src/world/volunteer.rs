//! A node whose owner may have agreed to serve.

use tandem_core::admission::{Admission, Work};
use tandem_core::election::{Candidacy, Config};
use tandem_core::rng::Rng;
use tandem_core::service::places::Places;
use tandem_core::time::Now;

use crate::geography::Place;
use crate::wheel::Ms;

/// Never.
pub(super) const NEVER: Ms = Ms::MAX;

/// How a machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// Not started.
    Off,
    Up,
    /// The process ended: connections are reset, and refused from then on.
    Killed,
    /// The machine vanished: nothing is answered.
    Vanished,
}

/// How it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Honest,
    /// Everything takes two seconds longer.
    Slow,
    /// Answers to look-ups do not verify.
    Lying,
    /// It takes places and does no work for them: passes nothing on, finds nothing, carries no sound.
    Freeloading,
    /// It always says that it has room, never invites anybody, and never leaves.
    Hoarding,
    /// One of an attacker's: finds nothing, names only others of the attacker's.
    Sybil,
}

/// Another supernode that it knows of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acquaintance {
    pub(super) volunteer: u32,
    /// It was connected to it once.
    pub(super) met: bool,
    /// When it could not be reached, if nothing was heard of it since.
    pub(super) missed: Option<Ms>,
}

/// Requests that it got.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Requests {
    second: Ms,
    in_second: u32,
    /// In the busiest second since [`Requests::take`].
    worst: u32,
    asked: u32,
    refused: u32,
}

impl Requests {
    fn count(&mut self, refused: bool, now: Ms) {
        let second = now / 1_000;
        if self.second != second {
            (self.second, self.in_second) = (second, 0);
        }
        self.in_second += 1;
        self.worst = self.worst.max(self.in_second);
        self.asked += 1;
        self.refused += u32::from(refused);
    }

    /// Asked, refused, and the busiest second, since this was asked last.
    pub(super) fn take(&mut self) -> (u32, u32, u32) {
        let taken = (self.asked, self.refused, self.worst);
        (self.asked, self.refused, self.worst) = (0, 0, 0);
        taken
    }

    /// In the last second that had any.
    pub(super) fn lately(&self) -> u32 {
        self.in_second
    }
}

#[derive(Debug)]
pub(super) struct Volunteer {
    pub(super) place: Place,
    pub(super) network: u32,
    pub(super) release: u16,
    pub(super) port_443: bool,
    pub(super) manner: Manner,
    /// Its owner agreed to the terms.
    pub(super) consents: bool,
    /// It serves as the world begins.
    pub(super) founds: bool,
    pub(super) health: Health,
    /// Counts its starts and ends.
    pub(super) life: u16,
    pub(super) died: Ms,
    /// It may serve, as its owner and others have it.
    pub(super) eligible: bool,
    pub(super) serves: bool,
    pub(super) drains: bool,
    /// Since when others have heard of it.
    pub(super) listed: Ms,
    pub(super) at_serving: u32,
    pub(super) candidacy: Candidacy,
    pub(super) admission: Admission,
    /// By leaf, on which of its connections.
    pub(super) places: Places<u32, u16>,
    pub(super) no_place: u32,
    pub(super) known: Vec<Acquaintance>,
    /// Streams that it opened to others (a reserve: whom it watches), and that others opened to it.
    pub(super) out: Vec<u32>,
    pub(super) inward: Vec<u32>,
    /// Load and time of its newest descriptor, and of that which has come round.
    pub(super) signed: (u32, Ms),
    pub(super) told: (u32, Ms),
    /// Calls whose sound it relays.
    pub(super) calls: Vec<u32>,
    pub(super) due: Ms,
    pub(super) sighted: Ms,
    pub(super) pruned: Ms,
    pub(super) requests: Requests,
    /// Under the old rules: since when it has too much to do.
    pub(super) overloaded: Option<Ms>,
}

/// What does not change in a volunteer's life.
#[derive(Debug, Clone, Copy)]
pub(super) struct Character {
    pub(super) place: Place,
    pub(super) network: u32,
    pub(super) release: u16,
    pub(super) port_443: bool,
    pub(super) manner: Manner,
    pub(super) consents: bool,
    pub(super) founds: bool,
}

impl Volunteer {
    pub(super) fn new(character: Character, now: Now) -> Self {
        Self {
            place: character.place,
            network: character.network,
            release: character.release,
            port_443: character.port_443,
            manner: character.manner,
            consents: character.consents,
            founds: character.founds,
            health: Health::Off,
            life: 0,
            died: 0,
            eligible: false,
            serves: false,
            drains: false,
            listed: NEVER,
            at_serving: 0,
            candidacy: Candidacy::new(Config::default(), 0, now),
            admission: Admission::new(1, now.mono_ms),
            places: Places::default(),
            no_place: 0,
            known: Vec::new(),
            out: Vec::new(),
            inward: Vec::new(),
            signed: (0, 0),
            told: (0, 0),
            calls: Vec::new(),
            due: NEVER,
            sighted: 0,
            pruned: 0,
            requests: Requests::default(),
            overloaded: None,
        }
    }

    /// It answers as a supernode.
    pub(super) fn is_up(&self) -> bool {
        self.health == Health::Up && self.serves
    }

    /// Places and calls held, whichever is nearer to its end, in steps of ten per cent: as `Service::load_percent`.
    pub(super) fn load_percent(&self, places: u32, calls: u32) -> u32 {
        if self.manner == Manner::Hoarding {
            return 0;
        }
        let held = self.places.len() as u32 * 100 / places.max(1);
        let relayed = self.calls.len() as u32 * 100 / calls.max(1);
        held.max(relayed).min(100) / 10 * 10
    }

    /// Takes the work on, or says when to come again.
    pub(super) fn admit(&mut self, work: Work, rng: &mut Rng, now: Now) -> Result<(), u32> {
        let admitted = self.admission.admit(work, rng, now.mono_ms);
        self.requests.count(admitted.is_err(), now.mono_ms as Ms);
        admitted
    }

    pub(super) fn is_missed(&self, missed: Option<Ms>) -> bool {
        // What was heard of it since it came back counts.
        missed.is_some_and(|at| self.listed == NEVER || at >= self.listed || self.health != Health::Up)
    }
}
