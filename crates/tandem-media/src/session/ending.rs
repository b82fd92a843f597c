//! The end of a leg, said on its paths.
//!
//! Signalling can be dead for seconds before anybody notices, while sound still passes. So whoever ends a leg says so in
//! its probes too, which only the two ends can make, and goes on answering until the other end has said the same.

use std::time::{Duration, Instant};

use super::Session;
use super::types::Event;

/// It is said so often unasked, this far apart.
const TIMES: u8 = 3;
const APART: Duration = Duration::from_millis(50);
/// Paths may be dead for the moment: so long it is said in the probes of each path, and relays are kept.
const LINGER: Duration = Duration::from_secs(5);
/// When the other end has said it too, it needs ours only to stop asking.
const LINGER_HEARD: Duration = Duration::from_millis(100);

/// This end has ended the leg.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    said: u8,
    say_at: Instant,
    until: Instant,
}

impl Session {
    /// Ends the leg: no sound passes any more, either way. The other end is told on every path; when it has said the
    /// same, or after 5 s, the session closes. Go on feeding it until [`Event::Closed`].
    pub fn end(&mut self, now: Instant) {
        if self.closed || self.ending.is_some() {
            return;
        }
        let linger = if self.peer_ended { LINGER_HEARD } else { LINGER };
        self.ending = Some(Ending { said: 0, say_at: now, until: now + linger });
        if !self.paths.has_been_valid() {
            return self.close(ENDED, now);
        }
        self.ending_timeout(now);
        self.drain(now);
    }

    /// Whether [`Self::end`] was called, or the session is closed.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.closed || self.ending.is_some()
    }

    /// Whether the session has ended altogether: nothing more need be fed to it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// What ends at once says so once: nobody will be there to say it again.
    pub(super) fn say_end_once(&mut self, now: Instant) {
        if self.ending.is_none() {
            self.ending = Some(Ending { said: TIMES, say_at: now, until: now });
            self.say_end(now);
        }
    }

    /// An authentic probe says that the other end has ended the leg. It cannot begin again, so an old such probe says
    /// nothing wrong.
    pub(super) fn peer_has_ended(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.peer_ended, true) {
            self.push_event(Event::PeerEnded);
        }
        let Some(ending) = &mut self.ending else { return };
        // It may have said so before it heard us.
        ending.until = ending.until.min(now + LINGER_HEARD);
    }

    pub(super) fn ending_timeout(&mut self, now: Instant) {
        let Some(ending) = &mut self.ending else { return };
        if ending.said < TIMES && now >= ending.say_at {
            ending.said += 1;
            ending.say_at = now + APART;
            self.say_end(now);
        }
        if self.ending.is_some_and(|ending| now >= ending.until) {
            self.close(ENDED, now);
        }
    }

    pub(super) fn ending_deadline(&self) -> Option<Instant> {
        let ending = self.ending?;
        Some(if ending.said < TIMES { ending.say_at.min(ending.until) } else { ending.until })
    }

    fn say_end(&mut self, now: Instant) {
        for path in self.paths.open() {
            self.send_probe(path, now);
        }
    }
}

const ENDED: &str = "the call ended";
