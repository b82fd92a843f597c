//! What a run is to be: a TOML file, refused whole where it says something unknown or out of bounds.

use serde::Deserialize;

/// A run. Times are given in the unit that their names end with; shares in per cent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// Leaves, online and offline together.
    pub nodes: u32,
    /// Virtual time after the beginning, in which the nodes start, is over.
    pub minutes: u32,
    /// At which hour (UTC) the measured time begins.
    #[serde(default)]
    pub hour_utc: u32,
    #[serde(default)]
    pub policy: PolicyName,
    #[serde(default)]
    pub people: People,
    #[serde(default)]
    pub supernodes: Supernodes,
    #[serde(default)]
    pub old: Old,
    #[serde(default)]
    pub bounds: Bounds,
    #[serde(default, rename = "fault")]
    pub faults: Vec<Fault>,
}

fn default_seed() -> u64 {
    1
}

/// Which rules the nodes follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyName {
    /// Those of `tandem-core`.
    #[default]
    Tandem,
    /// Those that the network of 2003 to 2012 is said to have had; see [`Old`].
    Old,
}

/// Leaves and the people in front of them.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct People {
    /// Nodes that start while the world begins, of all.
    pub online_at_start_percent: u32,
    /// They do so within this time.
    pub start_minutes: u32,
    /// Nodes come and go; without, those that started stay.
    pub churn: bool,
    /// Calls that somebody online places in an hour, in hundredths.
    pub calls_per_100_hours: u32,
    /// Calls whose sound goes through relays.
    pub relayed_percent: u32,
    /// Mean length of a call.
    pub call_minutes: u32,
    /// Sessions that end without a word.
    pub vanish_percent: u32,
}

impl Default for People {
    fn default() -> Self {
        Self {
            online_at_start_percent: 40,
            start_minutes: 20,
            churn: true,
            calls_per_100_hours: 25,
            relayed_percent: 25,
            call_minutes: 13,
            vanish_percent: 20,
        }
    }
}

/// Nodes whose owners agreed to serve.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Supernodes {
    /// Devices that one takes as a home.
    pub places: u32,
    /// Requests that one answers in a second in the long run.
    pub requests_per_second: u32,
    /// Relayed calls that one carries at once.
    pub calls: u32,
    /// How full those that serve at the beginning would be if nobody joined them.
    pub full_at_start_percent: u32,
    /// Volunteers online beside each that serves at the beginning.
    pub reserves_percent: u32,
    /// Nodes whose owners agreed to nothing, of those that could serve.
    pub unwilling_percent: u32,
    /// They come and go as BASELINES says; without, those that started stay.
    pub churn: bool,
    /// Those that run the newer release.
    pub new_release_percent: u32,
    pub slow_percent: u32,
    pub lying_percent: u32,
    pub freeloading_percent: u32,
    pub hoarding_percent: u32,
    /// Those of one attacker, all in a few networks.
    pub sybil_percent: u32,
}

impl Default for Supernodes {
    fn default() -> Self {
        Self {
            places: 500,
            requests_per_second: 200,
            calls: 50,
            full_at_start_percent: 60,
            reserves_percent: 200,
            unwilling_percent: 10,
            churn: true,
            new_release_percent: 30,
            slow_percent: 0,
            lying_percent: 0,
            freeloading_percent: 0,
            hoarding_percent: 0,
            sybil_percent: 0,
        }
    }
}

/// The old behaviour's constants. None is published: these are assumptions.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Old {
    /// A client without a supernode tries one each so many seconds, for ever.
    pub retry_s: u32,
    /// Different supernodes that it tries at once.
    pub parallel: u32,
    /// A supernode above this load of requests, in per cent of what it can answer, shuts itself down …
    pub shut_down_percent: u32,
    /// … if that lasts so long, and comes back …
    pub shut_down_after_s: u32,
    /// … after this.
    pub back_after_minutes: u32,
}

impl Default for Old {
    fn default() -> Self {
        Self {
            retry_s: 10,
            parallel: 4,
            shut_down_percent: 100,
            shut_down_after_s: 10,
            back_after_minutes: 10,
        }
    }
}

/// What must hold, stated before the run. `None`: it is reported and not judged.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// 99 % of those online are reachable again so soon after the last fault.
    pub reachable_within_s: Option<u32>,
    /// Requests at the busiest supernode after the fault, in per cent of the busiest before.
    pub requests_percent: Option<u32>,
    /// Load of the survivors in the middle before reserves arrive, in per cent of what it was before.
    pub load_percent: Option<u32>,
    /// Calls lost of those that went on, in hundredths of a per cent.
    pub calls_lost_percent_100: Option<u32>,
    /// At the end, so many of those online are reachable (per mille).
    pub reachable_at_end_permille: Option<u32>,
}

/// What befalls the world, `minute` after the beginning is over. `percent`: of those it can befall. `within_s`: spread
/// over this time.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what", deny_unknown_fields)]
pub enum Fault {
    /// Supernodes die; one in five without a word. They do not come back within the run if `for_minutes` is 0.
    KillSupernodes {
        minute: u32,
        percent: u32,
        #[serde(default)]
        within_s: u32,
        #[serde(default)]
        for_minutes: u32,
    },
    /// Clients end and start again; by time zone: those where it is later in the day first, an hour of the sun in ten
    /// minutes.
    RestartClients {
        minute: u32,
        percent: u32,
        #[serde(default)]
        within_s: u32,
        #[serde(default)]
        by_time_zone: bool,
    },
    /// A region can reach nobody outside, nor be reached.
    CutRegion { minute: u32, region: u32, for_minutes: u32 },
    /// All supernodes of the newer release die, and again whenever they come back.
    BadRelease { minute: u32, for_minutes: u32 },
    /// People place so many times as many calls.
    FlashCrowd { minute: u32, times: u32, for_minutes: u32 },
    /// Nodes that were never online come, so many per cent of all in this time.
    Newcomers { minute: u32, percent: u32, for_minutes: u32 },
}

impl Fault {
    /// When, in minutes after the beginning is over.
    #[must_use]
    pub fn minute(&self) -> u32 {
        match *self {
            Self::KillSupernodes { minute, .. }
            | Self::RestartClients { minute, .. }
            | Self::CutRegion { minute, .. }
            | Self::BadRelease { minute, .. }
            | Self::FlashCrowd { minute, .. }
            | Self::Newcomers { minute, .. } => minute,
        }
    }

    /// It comes in one moment, or nearly.
    #[must_use]
    pub fn is_sudden(&self) -> bool {
        match *self {
            Self::KillSupernodes { within_s, .. } => within_s <= SUDDEN_S,
            Self::RestartClients { within_s, by_time_zone, .. } => within_s <= SUDDEN_S && !by_time_zone,
            Self::CutRegion { .. }
            | Self::BadRelease { .. }
            | Self::FlashCrowd { .. }
            | Self::Newcomers { .. } => false,
        }
    }

    /// When it is over, in minutes after the beginning is over.
    #[must_use]
    pub fn over_minute(&self) -> u32 {
        let spread = |within_s: u32| within_s.div_ceil(60);
        self.minute()
            + match *self {
                Self::KillSupernodes { within_s, .. } => spread(within_s),
                Self::RestartClients { within_s, by_time_zone, .. } => {
                    spread(within_s) + if by_time_zone { 240 } else { 0 }
                }
                Self::CutRegion { for_minutes, .. }
                | Self::BadRelease { for_minutes, .. }
                | Self::FlashCrowd { for_minutes, .. }
                | Self::Newcomers { for_minutes, .. } => for_minutes,
            }
    }
}

/// Why a scenario is refused.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error("the scenario does not parse: {0}")]
    Toml(#[from] toml::de::Error),
    #[error("{what} is {value}; it must be {least} to {most}")]
    OutOfBounds { what: &'static str, value: u32, least: u32, most: u32 },
    #[error("a fault comes in minute {minute}, and the run ends after {minutes}")]
    TooLate { minute: u32, minutes: u32 },
}

/// Nodes of one world, at most and at least.
pub const NODES_MAX: u32 = 20_000_000;
pub const NODES_MIN: u32 = 100;
/// Regions of the world.
pub const REGIONS: usize = 6;
/// What happens within this time is sudden: recovery is counted from its beginning.
const SUDDEN_S: u32 = 60;
/// Four weeks.
const MINUTES_MAX: u32 = 28 * 24 * 60;

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// What it says that is not known, or out of bounds.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), ScenarioError> {
        within("nodes", self.nodes, NODES_MIN, NODES_MAX)?;
        within("minutes", self.minutes, 1, MINUTES_MAX)?;
        within("hour_utc", self.hour_utc, 0, 23)?;
        let people = &self.people;
        within("people.online_at_start_percent", people.online_at_start_percent, 0, 100)?;
        within("people.start_minutes", people.start_minutes, 1, 600)?;
        within("people.calls_per_100_hours", people.calls_per_100_hours, 0, 1_000)?;
        within("people.relayed_percent", people.relayed_percent, 0, 100)?;
        within("people.call_minutes", people.call_minutes, 1, 240)?;
        within("people.vanish_percent", people.vanish_percent, 0, 100)?;
        let supernodes = &self.supernodes;
        within("supernodes.places", supernodes.places, 10, 10_000)?;
        within("supernodes.requests_per_second", supernodes.requests_per_second, 1, 1_000)?;
        within("supernodes.calls", supernodes.calls, 0, 10_000)?;
        within("supernodes.full_at_start_percent", supernodes.full_at_start_percent, 10, 100)?;
        within("supernodes.reserves_percent", supernodes.reserves_percent, 0, 1_000)?;
        within("supernodes.unwilling_percent", supernodes.unwilling_percent, 0, 100)?;
        within("supernodes.new_release_percent", supernodes.new_release_percent, 0, 100)?;
        let odd = supernodes.slow_percent
            + supernodes.lying_percent
            + supernodes.freeloading_percent
            + supernodes.hoarding_percent
            + supernodes.sybil_percent;
        within("the share of supernodes that do not do as they should", odd, 0, 100)?;
        within("old.retry_s", self.old.retry_s, 1, 3_600)?;
        within("old.parallel", self.old.parallel, 1, 8)?;
        within("old.shut_down_percent", self.old.shut_down_percent, 10, 10_000)?;
        self.faults.iter().try_for_each(|fault| self.check_fault(fault))
    }

    fn check_fault(&self, fault: &Fault) -> Result<(), ScenarioError> {
        if fault.minute() >= self.minutes {
            return Err(ScenarioError::TooLate { minute: fault.minute(), minutes: self.minutes });
        }
        match *fault {
            Fault::KillSupernodes { percent, within_s, for_minutes, .. } => {
                within("fault.percent", percent, 0, 100)?;
                within("fault.for_minutes", for_minutes, 0, MINUTES_MAX)?;
                within("fault.within_s", within_s, 0, 24 * 3_600)
            }
            Fault::RestartClients { percent, within_s, .. } => {
                within("fault.percent", percent, 0, 100)?;
                within("fault.within_s", within_s, 0, 24 * 3_600)
            }
            Fault::CutRegion { region, for_minutes, .. } => {
                within("fault.region", region, 0, REGIONS as u32 - 1)?;
                within("fault.for_minutes", for_minutes, 1, MINUTES_MAX)
            }
            Fault::FlashCrowd { times, for_minutes, .. } => {
                within("fault.times", times, 1, 100)?;
                within("fault.for_minutes", for_minutes, 1, MINUTES_MAX)
            }
            Fault::Newcomers { percent, for_minutes, .. } => {
                within("fault.percent", percent, 0, 100)?;
                within("fault.for_minutes", for_minutes, 1, MINUTES_MAX)
            }
            Fault::BadRelease { for_minutes, .. } => within("fault.for_minutes", for_minutes, 1, MINUTES_MAX),
        }
    }
}

fn within(what: &'static str, value: u32, least: u32, most: u32) -> Result<(), ScenarioError> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(ScenarioError::OutOfBounds { what, value, least, most })
    }
}
