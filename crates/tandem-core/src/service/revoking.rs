//! Revoked devices: what a home does when it learns a newer device set (spec/overlay.md, "Device sets").
//!
//! A home knows which account a device belongs to from the device itself: from what it published here, or from its signed
//! entry in a record. So nobody can have another's device thrown out by naming it in a set of their own.

use std::collections::{BTreeMap, VecDeque};

use prost::Message as _;
use tandem_proto::ids::{AccountKey, DeviceKey};
use tandem_proto::names::FailureCode;
use tandem_proto::record::ReachRecord;
use tandem_proto::signed::DeviceSet;
use tandem_proto::wire;
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{DeviceSetNoted, DeviceSetNotice};

use super::client::Client;
use super::{ClientRef, Command, Service};
use crate::time::Now;

/// Revoked devices remembered; the oldest makes room. About 1 KB each.
const REVOKED_MAX: usize = 1_024;
/// So long, in milliseconds: by then every directory has forgotten the entries of the device.
const REVOKED_MS: u64 = 24 * 3_600_000;
/// A revoked device has this long to hear why, in milliseconds, before its connection is cut.
const EXPEL_AFTER_MS: u64 = 500;

#[derive(Debug)]
struct Revoked {
    /// The set that does not name it: shown to it, so that it can see for itself.
    set: DeviceSet,
    until_ms: u64,
}

/// Devices that were revoked.
#[derive(Debug, Default)]
pub(super) struct Revoking {
    revoked: BTreeMap<DeviceKey, Revoked>,
    order: VecDeque<DeviceKey>,
    /// Connections to be cut, and when.
    expelling: Vec<(DeviceKey, u64)>,
}

impl Revoking {
    fn remember(&mut self, device: DeviceKey, set: &DeviceSet, now_mono_ms: u64) {
        let revoked = Revoked { set: set.clone(), until_ms: now_mono_ms + REVOKED_MS };
        if self.revoked.insert(device, revoked).is_some() {
            return;
        }
        self.order.push_back(device);
        if self.order.len() > REVOKED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.revoked.remove(&oldest);
        }
    }

    fn forget_expired(&mut self, now_mono_ms: u64) {
        while let Some(oldest) = self.order.front()
            && self.revoked.get(oldest).is_none_or(|revoked| now_mono_ms >= revoked.until_ms)
        {
            self.revoked.remove(oldest);
            self.order.pop_front();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.revoked.len()
    }
}

impl Service {
    // ---- what is learnt -------------------------------------------------------------------------------------------

    /// Keeps a verified record, which `from` gave. Says whether it changed what was known; a newer device set in it is
    /// acted upon.
    pub(super) fn keep_record(&mut self, record: &ReachRecord, from: Option<ClientRef>, now: Now) -> bool {
        let account = record.account();
        let before = self.directory.copy(account).cloned();
        let changed = self.directory.keep(record, now.mono_ms);
        let Some(after) = self.directory.copy(account).map(|copy| copy.device_set().clone()) else {
            return changed;
        };
        if before.as_ref().is_none_or(|before| after.outranks(before.device_set())) {
            self.spread_set(before.as_ref(), &after, from, now);
        }
        changed
    }

    /// Tells the account's devices of its newer set, but for the one it came from, and parts with those it does not name.
    fn spread_set(
        &mut self,
        before: Option<&ReachRecord>,
        set: &DeviceSet,
        from: Option<ClientRef>,
        now: Now,
    ) {
        let account = set.account();
        let had = before.iter().flat_map(|record| record.homes()).map(|entry| entry.device());
        let mut gone: Vec<DeviceKey> = had.filter(|device| !set.contains(*device)).collect();
        let here: Vec<(ClientRef, DeviceKey)> = self
            .clients
            .iter()
            .filter(|(_, state)| state.account == Some(account))
            .map(|(client, state)| (*client, state.device()))
            .collect();
        gone.extend(here.iter().map(|(_, device)| *device).filter(|device| !set.contains(*device)));
        for device in gone {
            self.revoking.remember(device, set, now.mono_ms);
        }
        for (client, device) in here {
            if !set.contains(device) {
                self.part_with(client, device, set, now);
            } else if Some(client) != from {
                self.send_set(client, set);
            }
        }
    }

    /// A device published what is older than what is known of its account: it is shown the newest device set, and goes
    /// if that does not name it.
    pub(super) fn show_newer_set(&mut self, client: ClientRef, account: AccountKey, now: Now) {
        let Some(set) = self.directory.copy(account).map(|copy| copy.device_set().clone()) else { return };
        let Some(device) = self.clients.get(&client).map(Client::device) else { return };
        if set.contains(device) {
            self.send_set(client, &set);
        } else {
            self.revoking.remember(device, &set, now.mono_ms);
            self.part_with(client, device, &set, now);
        }
    }

    fn send_set(&mut self, client: ClientRef, set: &DeviceSet) {
        let notice = DeviceSetNotice { device_set: Some(set.signed().clone()) };
        self.send(client, 0, Body::DeviceSetNotice(notice));
    }

    /// Says why, then closes its stream, its reservation and its circuits.
    fn part_with(&mut self, client: ClientRef, device: DeviceKey, set: &DeviceSet, now: Now) {
        self.send_set(client, set);
        self.drop_client(client, 0, FailureCode::Revoked, REVOKED, now);
        self.reserving.places.forget_kept(device);
        // One that is on its way out already need not be named twice.
        if !self.revoking.expelling.iter().any(|(other, _)| *other == device) {
            self.revoking.expelling.push((device, now.mono_ms + EXPEL_AFTER_MS));
        }
    }

    pub(super) fn drive_revoking(&mut self, now: Now) {
        self.revoking.forget_expired(now.mono_ms);
        for (device, _) in self.revoking.expelling.extract_if(.., |(_, at_ms)| now.mono_ms >= *at_ms) {
            self.commands.push_back(Command::Expel(device));
        }
    }

    // ---- what is asked --------------------------------------------------------------------------------------------

    /// A device that was revoked gets nothing here any more, but the reason. True: it was refused.
    pub(super) fn refuse_revoked(&mut self, client: ClientRef, id: u64, now: Now) -> bool {
        let Some(state) = self.clients.get(&client).filter(|state| !state.outbound) else { return false };
        let device = state.device();
        let Some(set) = self.revoking.revoked.get(&device).map(|revoked| revoked.set.clone()) else {
            return false;
        };
        self.fail(client, id, FailureCode::Revoked, REVOKED);
        self.part_with(client, device, &set, now);
        true
    }

    /// Somebody shows a device set. It is used if it concerns a device that has its home here.
    pub(super) fn handle_device_set_notice(
        &mut self,
        client: ClientRef,
        id: u64,
        notice: &DeviceSetNotice,
        now: Now,
    ) {
        if !self.may_search(client, id, now) {
            return;
        }
        let signed = notice.device_set.clone().unwrap_or_default();
        let Some(account) = account_of_set(&signed) else {
            self.fail(client, id, FailureCode::Malformed, "the device set names no account");
            return;
        };
        match DeviceSet::verify(&signed, account, now.unix_ms) {
            Ok(set) => {
                let concerned = self.directory.copy(account).is_some()
                    || self.clients.values().any(|state| state.account == Some(account));
                if concerned {
                    self.keep_record(&ReachRecord::new(set), Some(client), now);
                }
                self.send(client, id, Body::DeviceSetNoted(DeviceSetNoted {}));
            }
            Err(error) => {
                let code = self.blame(client, FailureCode::RecordRefused);
                self.fail(client, id, code, &error.to_string());
            }
        }
    }
}

const REVOKED: &str = "a newer device set of the account does not name this device";

/// Whose set this claims to be. Proves nothing.
pub(super) fn account_of_set(signed: &wire::Signed) -> Option<AccountKey> {
    let claimed = wire::DeviceSet::decode(signed.payload.as_slice()).ok()?;
    AccountKey::try_from(claimed.account.as_slice()).ok()
}
