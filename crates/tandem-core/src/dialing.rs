//! No storms: how many different peers are contacted in a minute at most, whoever recommends how many others, and how
//! often the same ones are tried again.

use crate::backoff::TokenBucket;

/// Different supernodes that one machine's homes contact in any minute.
pub const HOMES_CONTACTS_A_MINUTE: usize = 16;
/// Different supernodes that a supernode dials in any minute.
pub const SUPERNODE_CONTACTS_A_MINUTE: usize = 30;
/// Different supernodes that a device dials in any minute, for whatever reason: [`HOMES_CONTACTS_A_MINUTE`] for homes,
/// which nothing else uses up, since without homes nobody can call, and the rest for everything else …
pub const DEVICE_CONTACTS_A_MINUTE: usize = HOMES_CONTACTS_A_MINUTE + CALLS_A_MINUTE;
/// … all of it for calls if need be …
pub const CALLS_A_MINUTE: usize = 36;
/// … of which no more than this many go to anything but calls.
pub const OTHERS_A_MINUTE: usize = 12;
/// Dials of those that were dialled in the last minute already: so many at once …
pub const RETRIES: u32 = 24;
/// … then one in this time.
const RETRY_MS: u32 = 3_000;
/// The same for calls, each of whose attempts may ask three supernodes of each of eight devices.
pub const CALL_RETRIES: u32 = 96;
const CALL_RETRY_MS: u32 = 1_000;
const MINUTE_MS: u64 = 60_000;

/// Whom somebody contacted in the last minute: at most `MAX` different ones. Trying one of them again is another
/// question, for a back-off and a budget.
#[derive(Debug, Clone)]
pub struct Contacts<K, const MAX: usize>(Vec<(K, u64)>);

impl<K, const MAX: usize> Default for Contacts<K, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Copy + PartialEq, const MAX: usize> Contacts<K, MAX> {
    /// When `peer` may be contacted (monotonic, in milliseconds); `now_mono_ms` if at once.
    #[must_use]
    pub fn allowed_at_ms(&self, peer: K, now_mono_ms: u64) -> u64 {
        if self.holds(peer, now_mono_ms) || self.recent(now_mono_ms).count() < MAX {
            return now_mono_ms;
        }
        self.oldest_ends_ms(now_mono_ms).unwrap_or(now_mono_ms)
    }

    /// When `peer` may be contacted if those beyond the first `at_will` of a minute keep `apart_ms` from each other.
    pub(crate) fn spaced_ms(&self, peer: K, at_will: usize, apart_ms: u64, now_mono_ms: u64) -> u64 {
        if self.holds(peer, now_mono_ms) || self.recent(now_mono_ms).count() < at_will {
            return now_mono_ms;
        }
        let newest_ms = self.recent(now_mono_ms).map(|(_, at_ms)| *at_ms).max();
        newest_ms.map_or(now_mono_ms, |at_ms| at_ms + apart_ms)
    }

    /// Whether it was contacted in the last minute.
    fn holds(&self, peer: K, now_mono_ms: u64) -> bool {
        self.recent(now_mono_ms).any(|(known, _)| *known == peer)
    }

    fn recent(&self, now_mono_ms: u64) -> impl Iterator<Item = &(K, u64)> {
        self.0.iter().filter(move |(_, at_ms)| now_mono_ms < at_ms + MINUTE_MS)
    }

    /// When the minute of the oldest one ends.
    fn oldest_ends_ms(&self, now_mono_ms: u64) -> Option<u64> {
        self.recent(now_mono_ms).map(|(_, at_ms)| at_ms + MINUTE_MS).min()
    }

    /// It is contacted now.
    pub fn note(&mut self, peer: K, now_mono_ms: u64) {
        self.0.retain(|(known, _)| *known != peer);
        self.0.push((peer, now_mono_ms));
    }

    /// Whoever was contacted longer ago than a minute.
    pub fn forget_old(&mut self, now_mono_ms: u64) {
        self.0.retain(|(_, at_ms)| now_mono_ms < at_ms + MINUTE_MS);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }
}

/// What somebody is dialled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A call that is being placed, is ringing or goes on.
    Call,
    /// A place as a home.
    Home,
    /// Anything else.
    Other,
}

/// A device's one gate: every dial of a supernode asks here first, whichever machine wants it.
#[derive(Debug, Clone)]
pub struct Dialing<K> {
    calls: Contacts<K, CALLS_A_MINUTE>,
    homes: Contacts<K, HOMES_CONTACTS_A_MINUTE>,
    others: Contacts<K, OTHERS_A_MINUTE>,
    call_retries: TokenBucket,
    home_retries: TokenBucket,
    other_retries: TokenBucket,
}

impl<K> Default for Dialing<K> {
    fn default() -> Self {
        Self {
            calls: Contacts::default(),
            homes: Contacts::default(),
            others: Contacts::default(),
            call_retries: TokenBucket::new(CALL_RETRIES, CALL_RETRY_MS, 0),
            home_retries: TokenBucket::new(RETRIES, RETRY_MS, 0),
            other_retries: TokenBucket::new(RETRIES, RETRY_MS, 0),
        }
    }
}

impl<K: Copy + PartialEq> Dialing<K> {
    /// Notes the dial if it may be made now. One who was contacted in the last minute, for whatever purpose, is no new
    /// one, but is dialled again out of a budget.
    ///
    /// # Errors
    /// How long to wait, in milliseconds.
    pub fn admit(&mut self, peer: K, purpose: Purpose, now_mono_ms: u64) -> Result<(), u64> {
        self.calls.forget_old(now_mono_ms);
        self.homes.forget_old(now_mono_ms);
        self.others.forget_old(now_mono_ms);
        let account = match self.account_of(peer, now_mono_ms) {
            // It stays on the account that it is on, and is counted once.
            Some(account) => {
                self.take_retry(purpose, now_mono_ms)?;
                account
            }
            None => {
                let at_ms = self.allowed_at_ms(peer, purpose, now_mono_ms);
                if at_ms > now_mono_ms {
                    return Err(at_ms - now_mono_ms);
                }
                purpose
            }
        };
        match account {
            Purpose::Call => self.calls.note(peer, now_mono_ms),
            Purpose::Home => self.homes.note(peer, now_mono_ms),
            Purpose::Other => self.others.note(peer, now_mono_ms),
        }
        Ok(())
    }

    /// What it was contacted for, if it was in the last minute.
    fn account_of(&self, peer: K, now_mono_ms: u64) -> Option<Purpose> {
        if self.calls.holds(peer, now_mono_ms) {
            Some(Purpose::Call)
        } else if self.homes.holds(peer, now_mono_ms) {
            Some(Purpose::Home)
        } else {
            self.others.holds(peer, now_mono_ms).then_some(Purpose::Other)
        }
    }

    fn take_retry(&mut self, purpose: Purpose, now_mono_ms: u64) -> Result<(), u64> {
        let budget = match purpose {
            Purpose::Call => &mut self.call_retries,
            Purpose::Home => &mut self.home_retries,
            Purpose::Other => &mut self.other_retries,
        };
        if budget.take(now_mono_ms) { Ok(()) } else { Err(budget.wait_ms(now_mono_ms).max(1)) }
    }

    /// How many were contacted in the last minute.
    #[must_use]
    pub fn contacted(&self, now_mono_ms: u64) -> usize {
        self.homes.recent(now_mono_ms).count() + self.beside_homes(now_mono_ms)
    }

    fn beside_homes(&self, now_mono_ms: u64) -> usize {
        self.calls.recent(now_mono_ms).count() + self.others.recent(now_mono_ms).count()
    }

    fn allowed_at_ms(&self, peer: K, purpose: Purpose, now_mono_ms: u64) -> u64 {
        let own_ms = match purpose {
            Purpose::Home => return self.homes.allowed_at_ms(peer, now_mono_ms),
            Purpose::Call => self.calls.allowed_at_ms(peer, now_mono_ms),
            Purpose::Other => self.others.allowed_at_ms(peer, now_mono_ms),
        };
        let full = self.beside_homes(now_mono_ms) >= CALLS_A_MINUTE;
        let oldest_ms = [self.calls.oldest_ends_ms(now_mono_ms), self.others.oldest_ends_ms(now_mono_ms)];
        let all_ms = oldest_ms.into_iter().flatten().min().filter(|_| full).unwrap_or(now_mono_ms);
        own_ms.max(all_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_holds_so_many_different_peers_and_the_same_ones_again() {
        let mut contacts: Contacts<u32, 3> = Contacts::default();
        for peer in 0..3 {
            assert_eq!(contacts.allowed_at_ms(peer, 1_000), 1_000);
            contacts.note(peer, 1_000 + u64::from(peer));
        }
        assert_eq!(contacts.allowed_at_ms(2, 2_000), 2_000);
        assert_eq!(contacts.allowed_at_ms(7, 2_000), 61_000);
        assert_eq!(contacts.allowed_at_ms(7, 61_000), 61_000);
        contacts.forget_old(61_000);
        assert_eq!(contacts.0.len(), 2);
    }

    fn admitted(dialing: &mut Dialing<u32>, peers: std::ops::Range<u32>, purpose: Purpose) -> usize {
        peers.filter(|peer| dialing.admit(*peer, purpose, 0).is_ok()).count()
    }

    #[test]
    fn calls_have_a_share_that_nothing_else_uses_up() {
        let mut dialing = Dialing::default();
        assert_eq!(admitted(&mut dialing, 0..1_000, Purpose::Other), OTHERS_A_MINUTE);
        assert_eq!(admitted(&mut dialing, 1_000..2_000, Purpose::Call), 24);
        assert_eq!(admitted(&mut dialing, 2_000..3_000, Purpose::Home), HOMES_CONTACTS_A_MINUTE);
        assert_eq!(dialing.contacted(0), DEVICE_CONTACTS_A_MINUTE);
        assert_eq!(dialing.admit(5_000, Purpose::Call, 10_000), Err(50_000));
        for purpose in [Purpose::Other, Purpose::Call, Purpose::Home] {
            assert_eq!(dialing.admit(5, purpose, 10_000), Ok(()), "one contacted before is no new one");
        }
        assert_eq!(dialing.contacted(10_000), DEVICE_CONTACTS_A_MINUTE, "and is counted once");
    }

    #[test]
    fn the_same_ones_are_tried_again_out_of_a_budget() {
        let mut dialing = Dialing::default();
        assert_eq!(dialing.admit(1, Purpose::Other, 0), Ok(()));
        let again = (0..1_000).filter(|_| dialing.admit(1, Purpose::Other, 0).is_ok()).count();
        assert_eq!(again, RETRIES as usize);
        assert_eq!(dialing.admit(1, Purpose::Other, 1_000), Err(2_000));
        assert_eq!(dialing.admit(1, Purpose::Home, 1_000), Ok(()), "homes have a budget of their own");
        assert_eq!(dialing.admit(1, Purpose::Call, 1_000), Ok(()), "and so have calls");
        assert_eq!(dialing.admit(2, Purpose::Other, 1_000), Ok(()), "and a new one is no retry");
        assert_eq!(dialing.admit(1, Purpose::Other, 3_000), Ok(()));
        assert_eq!(dialing.admit(1, Purpose::Other, 3_000), Err(3_000));
        let calls = (0..1_000).filter(|_| dialing.admit(2, Purpose::Call, 3_000).is_ok()).count();
        assert_eq!(calls, CALL_RETRIES as usize);
    }

    #[test]
    fn calls_leave_a_share_for_new_homes() {
        let mut dialing = Dialing::default();
        assert_eq!(admitted(&mut dialing, 0..1_000, Purpose::Call), CALLS_A_MINUTE);
        assert_eq!(admitted(&mut dialing, 1_000..2_000, Purpose::Other), 0);
        assert_eq!(admitted(&mut dialing, 2_000..3_000, Purpose::Home), HOMES_CONTACTS_A_MINUTE);
        assert_eq!(dialing.admit(4_000, Purpose::Home, 59_000), Err(1_000));
        assert_eq!(dialing.admit(4_000, Purpose::Home, 60_000), Ok(()));
    }
}
