//! No storms: how many different peers are contacted in a minute at most, whoever recommends how many others.

/// Different supernodes that one machine's homes contact in any minute.
pub const HOMES_CONTACTS_A_MINUTE: usize = 12;
/// Different supernodes that a supernode dials in any minute.
pub const SUPERNODE_CONTACTS_A_MINUTE: usize = 30;
/// Different supernodes that a device dials in any minute, for whatever reason …
pub const DEVICE_CONTACTS_A_MINUTE: usize = 48;
/// … of which this many are kept for calls: look-ups and lists leave them alone.
const KEPT_FOR_CALLS: usize = 24;
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
        self.allowed_within(MAX, peer, now_mono_ms)
    }

    /// The same, if no more than `most` may have been contacted.
    fn allowed_within(&self, most: usize, peer: K, now_mono_ms: u64) -> u64 {
        let recent = || self.0.iter().filter(|(_, at_ms)| now_mono_ms < at_ms + MINUTE_MS);
        if recent().any(|(known, _)| *known == peer) || recent().count() < most {
            return now_mono_ms;
        }
        recent().map(|(_, at_ms)| at_ms + MINUTE_MS).min().unwrap_or(now_mono_ms)
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
    /// Homes, look-ups, lists.
    Other,
}

/// A device's one gate: every dial of a supernode asks here first, whichever machine wants it.
#[derive(Debug, Clone)]
pub struct Dialing<K> {
    contacts: Contacts<K, DEVICE_CONTACTS_A_MINUTE>,
}

impl<K> Default for Dialing<K> {
    fn default() -> Self {
        Self { contacts: Contacts::default() }
    }
}

impl<K: Copy + PartialEq> Dialing<K> {
    /// Notes the dial if it may be made now.
    ///
    /// # Errors
    /// How long to wait, in milliseconds.
    pub fn admit(&mut self, peer: K, purpose: Purpose, now_mono_ms: u64) -> Result<(), u64> {
        self.contacts.forget_old(now_mono_ms);
        let most = match purpose {
            Purpose::Call => DEVICE_CONTACTS_A_MINUTE,
            Purpose::Other => DEVICE_CONTACTS_A_MINUTE - KEPT_FOR_CALLS,
        };
        let at_ms = self.contacts.allowed_within(most, peer, now_mono_ms);
        if at_ms > now_mono_ms {
            return Err(at_ms - now_mono_ms);
        }
        self.contacts.note(peer, now_mono_ms);
        Ok(())
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

    #[test]
    fn calls_have_a_share_that_nothing_else_uses_up() {
        let mut dialing = Dialing::default();
        let admitted = |dialing: &mut Dialing<u32>, peers: std::ops::Range<u32>, purpose| {
            peers.filter(|peer| dialing.admit(*peer, purpose, 0).is_ok()).count()
        };
        assert_eq!(admitted(&mut dialing, 0..1_000, Purpose::Other), 24);
        assert_eq!(admitted(&mut dialing, 1_000..2_000, Purpose::Call), 24);
        assert_eq!(dialing.admit(5_000, Purpose::Call, 10_000), Err(50_000));
        assert_eq!(dialing.admit(5, Purpose::Other, 10_000), Ok(()), "one contacted before is no new one");
    }
}
