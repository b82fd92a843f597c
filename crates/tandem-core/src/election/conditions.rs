//! What a node must be, and what its owner must have agreed to, before it serves anybody.

use tandem_proto::signed::Roles;

/// Address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

/// What carries the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    Udp,
    Tcp,
}

/// One way in from outside. Each is proved by itself: a router may forward one and not the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    pub family: Family,
    pub carrier: Carrier,
    /// Through a port that a router forwards, instead of a public address of this machine.
    pub mapped: bool,
}

/// The two roles; consented to and capped apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Directory,
    Relay,
}

impl Role {
    pub const BOTH: [Self; 2] = [Self::Directory, Self::Relay];

    /// Its bit.
    #[must_use]
    pub fn bit(self) -> Roles {
        match self {
            Self::Directory => Roles::DIRECTORY,
            Self::Relay => Roles::RELAY,
        }
    }
}

/// What the owner agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consent {
    /// The version of the terms that was accepted.
    pub terms_version: u32,
    pub roles: Roles,
}

/// The hours of the day at which the owner lets the machine serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// Minutes after local midnight, 0 to 1439; the window may go over midnight. Equal ends mean the whole day.
    pub from_min: u16,
    pub until_min: u16,
    /// Local time minus UTC, in minutes.
    pub utc_offset_min: i16,
}

const DAY_MIN: i64 = 24 * 60;
const MINUTE_MS: u64 = 60_000;

impl Hours {
    /// The window is open at that moment.
    #[must_use]
    pub fn is_open(&self, unix_ms: u64) -> bool {
        let (from, until, minute) =
            (i64::from(self.from_min), i64::from(self.until_min), self.minute(unix_ms));
        match from.cmp(&until) {
            std::cmp::Ordering::Less => (from..until).contains(&minute),
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Greater => minute >= from || minute < until,
        }
    }

    /// How long until the window opens or closes, in milliseconds, to the minute; `None` when it never does.
    #[must_use]
    pub fn changes_in_ms(&self, unix_ms: u64) -> Option<u64> {
        if self.from_min == self.until_min {
            return None;
        }
        let edge = if self.is_open(unix_ms) { self.until_min } else { self.from_min };
        let ahead_min = (i64::from(edge) - self.minute(unix_ms)).rem_euclid(DAY_MIN);
        let ahead_ms = u64::try_from(ahead_min).unwrap_or(0) * MINUTE_MS;
        Some(ahead_ms.saturating_sub(unix_ms % MINUTE_MS).max(1))
    }

    /// Minutes after local midnight.
    fn minute(&self, unix_ms: u64) -> i64 {
        let utc_min = i64::try_from(unix_ms / MINUTE_MS).unwrap_or(i64::MAX / 2);
        (utc_min + i64::from(self.utc_offset_min)).rem_euclid(DAY_MIN)
    }
}

/// What the owner allows. Absent: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    pub directory_bytes_a_month: Option<u64>,
    pub relay_bytes_a_month: Option<u64>,
    pub hours: Option<Hours>,
}

impl Caps {
    pub(super) fn bytes_of(&self, role: Role) -> Option<u64> {
        match role {
            Role::Directory => self.directory_bytes_a_month,
            Role::Relay => self.relay_bytes_a_month,
        }
    }
}

/// Measured by the driver over the last minutes; never asked of the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    /// Of the whole machine, with all programs on it.
    pub cpu_free_percent: u32,
    /// Both ways, within the owner's cap, in kbit/s.
    pub bandwidth_free_kbps: u32,
}

/// How the machine stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Situation {
    pub metered: bool,
    pub on_battery: bool,
    /// The supernodes it meets speak no version of its own.
    pub outdated: bool,
    /// Served for others this month.
    pub directory_bytes: u64,
    pub relay_bytes: u64,
}

impl Situation {
    pub(super) fn bytes_of(&self, role: Role) -> u64 {
        match role {
            Role::Directory => self.directory_bytes,
            Role::Relay => self.relay_bytes,
        }
    }
}

/// Something that must be so before a node may serve. `tandem volunteer` says each in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The owner has not agreed to this role.
    Consent,
    /// The owner agreed to an older version of the terms.
    NewTerms {
        accepted: u32,
        current: u32,
    },
    /// No UDP port is open that anybody outside could reach.
    NoWayIn,
    /// Not enough others have said yet that they can reach it: by the way that has come furthest.
    Unconfirmed {
        way: Way,
        networks: u32,
        wanted: u32,
    },
    /// Others tried and could not reach it.
    Unreachable {
        way: Way,
        networks: u32,
    },
    Uptime {
        missing_ms: u64,
    },
    /// CPU and bandwidth were not measured yet.
    Unmeasured,
    Cpu {
        free_percent: u32,
        wanted_percent: u32,
    },
    Bandwidth {
        free_kbps: u32,
        wanted_kbps: u32,
    },
    Metered,
    OnBattery,
    /// This month's bytes for the role are used up.
    MonthlyCap {
        bytes: u64,
    },
    /// Not at this hour.
    OutsideHours {
        opens_in_ms: u64,
    },
    Outdated,
}

impl Missing {
    /// One that serves already must stop for it. The others only keep a node from beginning: headroom is used up by
    /// serving itself, and a confirmation that grows old while nobody is there to renew it proves nothing.
    #[must_use]
    pub fn ends_serving(&self) -> bool {
        match self {
            Self::Consent
            | Self::NewTerms { .. }
            | Self::NoWayIn
            | Self::Unreachable { .. }
            | Self::Metered
            | Self::OnBattery
            | Self::MonthlyCap { .. }
            | Self::OutsideHours { .. } => true,
            Self::Unconfirmed { .. }
            | Self::Uptime { .. }
            | Self::Unmeasured
            | Self::Cpu { .. }
            | Self::Bandwidth { .. }
            | Self::Outdated => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn hours(from_min: u16, until_min: u16, utc_offset_min: i16) -> Hours {
        Hours { from_min, until_min, utc_offset_min }
    }

    #[test]
    fn a_window_opens_and_closes_in_local_time() {
        let evening = hours(18 * 60, 23 * 60, 60);
        assert!(!evening.is_open(16 * HOUR_MS));
        assert!(evening.is_open(17 * HOUR_MS));
        assert!(!evening.is_open(22 * HOUR_MS));
        assert_eq!(evening.changes_in_ms(16 * HOUR_MS + 1), Some(HOUR_MS - 1));
        assert_eq!(evening.changes_in_ms(17 * HOUR_MS), Some(5 * HOUR_MS));
    }

    #[test]
    fn a_window_may_go_over_midnight() {
        let night = hours(22 * 60, 6 * 60, -120);
        assert!(night.is_open(HOUR_MS));
        assert!(!night.is_open(12 * HOUR_MS));
        assert_eq!(night.changes_in_ms(HOUR_MS), Some(7 * HOUR_MS));
        let always = hours(60, 60, 0);
        assert!(always.is_open(12 * HOUR_MS));
        assert_eq!(always.changes_in_ms(0), None);
    }
}
