//! What devices had used of their grants when their allocations ended: a grant that is given back and used again goes on
//! with what is left of it.

use std::collections::HashMap;
use std::time::Instant;

use tandem_proto::ids::{CallTag, DeviceKey};

/// So many are remembered. Of more than that the rate of an allocation alone bounds what a grant carries.
const DEVICES_MAX: usize = 4_096;

/// A device in a call.
type Whose = (CallTag, DeviceKey);

/// Bytes used, and until when they count.
#[derive(Debug, Default)]
pub(super) struct Spent(HashMap<Whose, (u64, Instant)>);

impl Spent {
    /// Remembers what was used until the grant ends, if anything was and there is room.
    pub(super) fn put(&mut self, whose: Whose, bytes: u64, until: Instant) {
        if bytes > 0 && self.0.len() < DEVICES_MAX {
            self.0.insert(whose, (bytes, until));
        }
    }

    /// What this device has used before: now its new allocation remembers that.
    pub(super) fn take(&mut self, whose: Whose, now: Instant) -> u64 {
        if self.0.len() >= DEVICES_MAX {
            self.0.retain(|_, (_, until)| now < *until);
        }
        self.0.remove(&whose).filter(|(_, until)| now < *until).map_or(0, |(bytes, _)| bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn whose(number: u32) -> Whose {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        (CallTag([1; 16]), DeviceKey(key))
    }

    #[test]
    fn it_is_remembered_once_and_until_the_grant_ends() {
        let start = crate::testing::start();
        let end = start + Duration::from_secs(60);
        let mut spent = Spent::default();
        spent.put(whose(1), 100, end);
        assert_eq!(spent.take((CallTag([2; 16]), whose(1).1), start), 0, "another call");
        assert_eq!((spent.take(whose(1), start), spent.take(whose(1), start)), (100, 0));
        spent.put(whose(1), 200, end);
        assert_eq!(spent.take(whose(1), end), 0);
        spent.put(whose(1), 0, end);
        assert!(spent.0.is_empty(), "nothing used is nothing to remember");
    }

    #[test]
    fn it_does_not_grow_and_the_old_make_room() {
        let start = crate::testing::start();
        let end = start + Duration::from_secs(60);
        let mut spent = Spent::default();
        for number in 0..2 * DEVICES_MAX as u32 {
            spent.put(whose(number), 100, end);
        }
        assert_eq!(spent.0.len(), DEVICES_MAX);
        assert_eq!(spent.take(whose(0), start), 100);
        spent.put(whose(0), 100, end);
        assert_eq!(spent.take(whose(u32::MAX), end), 0);
        assert!(spent.0.is_empty());
    }
}
