//! Papers are renewed before they run out, and never before the account was looked up.

use tandem_proto::ids::DeviceKey;

use super::{Node, OwnRecord, What};

/// Papers are renewed when less than this is left, in seconds.
const RENEW_S: u64 = 90 * 86_400;
/// So often one device's papers are renewed, or tried to, in milliseconds.
const RENEW_EVERY_MS: u64 = 3_600_000;

impl Node {
    /// Renews papers before they run out, this device's or another's, one at a time and in turn: one that cannot be
    /// reached does not keep the others waiting. What the account's other devices changed is known by then.
    pub(in crate::node) fn renew_papers(&mut self) {
        let now = self.clock.now();
        let keys = &self.installation.keys;
        let holder = keys.entropy.is_some() && !keys.restoring && !self.person.is_revoked();
        let looked_up = self.devices.record.is_some();
        if !holder || !looked_up || self.devices.job.is_some() || now.mono_ms < self.devices.renew_ms {
            return;
        }
        self.devices.renew_ms = now.mono_ms + RENEW_EVERY_MS;
        let soon_s = now.unix_ms / 1000 + RENEW_S;
        let mut due: Vec<(DeviceKey, String)> = self
            .known_devices()
            .into_iter()
            .map(|known| known.certificate)
            .filter(|certificate| keys.device_set.admits(certificate) && certificate.not_after_s() < soon_s)
            .map(|certificate| (certificate.device(), certificate.label().to_owned()))
            .filter(|(device, _)| *device != keys.device.public())
            .collect();
        if keys.papers_end_s() < soon_s {
            due.push((keys.device.public(), keys.certificate.label().to_owned()));
        }
        if let Some((device, label)) = next_in_turn(due, self.devices.renewed) {
            self.devices.renewed = Some(device);
            self.begin_job(What::Rename { device, label, reply: None });
        }
    }

    /// A change builds on what the directory says. That it knows nothing is enough for a person's wish; a renewal can wait
    /// until it knows something, or until there is nothing left to lose.
    pub(super) fn too_little_known(&self, what: &What, outcome: &OwnRecord) -> bool {
        let renewal = matches!(what, What::Rename { reply: None, .. });
        let keys = &self.installation.keys;
        let hold = keys.papers_end_s() > self.clock.now().unix_ms / 1000;
        match outcome {
            OwnRecord::Found(_) => false,
            OwnRecord::NotFound => renewal && hold,
            OwnRecord::Unreachable => true,
        }
    }
}

/// The first behind the last one, by key; the lowest where there is none behind.
fn next_in_turn(due: Vec<(DeviceKey, String)>, last: Option<DeviceKey>) -> Option<(DeviceKey, String)> {
    due.into_iter().min_by_key(|(device, _)| (last.is_some_and(|last| *device <= last), *device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_cannot_be_reached_does_not_keep_the_others_waiting() {
        let due = || [3, 1, 2].map(|byte| (DeviceKey([byte; 32]), String::new())).to_vec();
        let mut last = None;
        let turns = [(); 5].map(|()| {
            last = next_in_turn(due(), last).map(|(device, _)| device);
            last.map(|device| device.0[0])
        });
        assert_eq!(turns, [Some(1), Some(2), Some(3), Some(1), Some(2)]);
        // The last one was renewed, and is no longer due.
        let others = vec![(DeviceKey([1; 32]), String::new()), (DeviceKey([3; 32]), String::new())];
        assert_eq!(next_in_turn(others, Some(DeviceKey([2; 32]))).map(|(device, _)| device.0[0]), Some(3));
        assert_eq!(next_in_turn(Vec::new(), last), None);
    }
}
