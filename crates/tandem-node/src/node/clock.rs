//! The node's clock: the one place where time is read.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tandem_core::time::Now;

/// Reads the time for every machine of the node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    begun: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { begun: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono_ms: millis(self.begun.elapsed()), unix_ms: unix_ms() }
    }

    /// All clocks, to see whether the machine slept.
    pub(crate) fn reading(&self) -> Reading {
        let now = self.now();
        Reading { mono_ms: now.mono_ms, boot_ms: boot_ms(), unix_ms: now.unix_ms }
    }

    /// The instant of a machine's time-out.
    pub(crate) fn instant(&self, mono_ms: u64) -> Instant {
        self.begun + Duration::from_millis(mono_ms)
    }
}

/// A difference between two clocks that only sleep explains: the slow drift that NTP allows stays far below it.
const SLEPT_MS: u64 = 2_000;

/// All clocks at one moment, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// Stands still while the machine sleeps.
    pub(crate) mono_ms: u64,
    /// Goes on in sleep; `None` where the system has no such clock.
    pub(crate) boot_ms: Option<u64>,
    pub(crate) unix_ms: u64,
}

/// Notices that the machine slept, or that its virtual machine was stopped: the clocks that went on are ahead of the one
/// that did not. Somebody who sets the clock forward causes the same; what follows is harmless. A process that was
/// stopped is not noticed here: all clocks went on, so whatever was due in the meantime is due at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SleepWatch {
    last: Reading,
}

impl SleepWatch {
    pub(crate) fn new(now: Reading) -> Self {
        Self { last: now }
    }

    /// For how many milliseconds the machine slept since the last reading, if it did.
    pub(crate) fn note(&mut self, now: Reading) -> Option<u64> {
        let last = std::mem::replace(&mut self.last, now);
        let awake_ms = now.mono_ms.saturating_sub(last.mono_ms);
        let boot_ms = now.boot_ms.zip(last.boot_ms).map(|(now, last)| now.saturating_sub(last));
        let passed_ms = boot_ms.unwrap_or(0).max(now.unix_ms.saturating_sub(last.unix_ms));
        Some(passed_ms.saturating_sub(awake_ms)).filter(|slept_ms| *slept_ms > SLEPT_MS)
    }
}

/// The clock that goes on while the machine sleeps.
fn boot_ms() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).ok()?;
        Some(millis(time.into()))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// The wall clock, in milliseconds since 1970-01-01 UTC; 0 where it stands before.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tandem_core::homes::{Command, HOMES, Homes};
    use tandem_core::peer::{KnownPeer, PeerRef};

    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn at(mono_ms: u64, boot_ms: Option<u64>, unix_ms: u64) -> Reading {
        Reading { mono_ms, boot_ms, unix_ms }
    }

    #[test]
    fn sleep_is_told_by_the_clocks_that_went_on() {
        let mut watch = SleepWatch::new(at(1_000, Some(1_000), DAY_MS));
        assert_eq!(watch.note(at(2_000, Some(2_000), DAY_MS + 1_000)), None);
        assert_eq!(watch.note(at(2_500, Some(62_500), DAY_MS + 61_500)), Some(60_000));
        assert_eq!(watch.note(at(3_500, Some(63_500), DAY_MS + 62_500)), None, "told once");
        assert_eq!(
            watch.note(at(4_500, Some(64_500), DAY_MS + 82_500)),
            Some(19_000),
            "a stopped virtual machine"
        );
    }

    fn commands(homes: &mut Homes) -> Vec<Command> {
        std::iter::from_fn(|| homes.poll_command()).collect()
    }

    /// By the clock that stands still, the night took 700 ms: no time-out of any machine is due then.
    #[test]
    fn a_night_that_only_the_other_clocks_saw_has_all_homes_made_anew_at_once() {
        let evening = Now { mono_ms: 5_000, unix_ms: 20_000 * DAY_MS };
        let mut homes = Homes::new(1, evening);
        let known = |index: u32| {
            let peer = PeerRef(index);
            KnownPeer { peer, network: index, referrer: None, port_443: false, release: 0 }
        };
        homes.handle_known(&[known(0), known(1), known(2)], evening);
        for index in 0..HOMES as u32 {
            homes.handle_opened(PeerRef(index), None, evening);
            homes.handle_reserved(PeerRef(index), 14_000, evening);
            homes.handle_published(PeerRef(index), evening);
        }
        commands(&mut homes);
        let mut watch = SleepWatch::new(at(evening.mono_ms, Some(evening.mono_ms), evening.unix_ms));

        let morning = Now { mono_ms: evening.mono_ms + 700, unix_ms: evening.unix_ms + DAY_MS / 3 };
        homes.handle_timeout(morning);
        let told = commands(&mut homes);
        let moves = |command: &Command| matches!(command, Command::Release(_) | Command::Connect(_));
        assert!(
            homes.reserved().count() == HOMES && !told.iter().any(moves),
            "nothing else notices: {told:?}"
        );
        let slept = watch.note(at(morning.mono_ms, Some(evening.mono_ms + DAY_MS / 3), morning.unix_ms));
        assert_eq!(slept, Some(DAY_MS / 3 - 700));

        homes.handle_network_changed(morning);
        let all = commands(&mut homes);
        let released = all.iter().filter(|command| matches!(command, Command::Release(_))).count();
        let sought = all.iter().filter(|command| matches!(command, Command::Connect(_))).count();
        assert!(released == HOMES && sought > 0, "{all:?}");
    }

    #[test]
    fn without_a_clock_that_counts_sleep_the_wall_tells() {
        let mut watch = SleepWatch::new(at(1_000, None, DAY_MS));
        assert_eq!(watch.note(at(2_000, None, 2 * DAY_MS)), Some(DAY_MS - 1_000));
    }

    #[test]
    fn a_slow_loop_and_a_clock_set_back_are_no_sleep() {
        let mut watch = SleepWatch::new(at(1_000, Some(1_000), DAY_MS));
        assert_eq!(watch.note(at(601_000, Some(601_000), DAY_MS + 600_000)), None);
        assert_eq!(watch.note(at(602_000, Some(602_000), 5)), None);
        assert_eq!(watch.note(at(603_000, Some(603_999), 2_100)), None, "below two seconds");
    }
}
