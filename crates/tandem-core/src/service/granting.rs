//! Grants: a relay's credentials for one device and one call tag (spec/relay.md, "Grants").

use std::collections::BTreeMap;

use tandem_proto::grant::GrantTerms;
use tandem_proto::ids::{CallTag, DeviceKey};
use tandem_proto::names::FailureCode;
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{Grant, GrantRequest};

use super::client::Phase;
use super::{ClientRef, Service};
use crate::backoff::TokenBucket;
use crate::time::Now;

/// A call has two ends, and on each the one device that carries it.
const DEVICES_PER_TAG: usize = 2;
/// Call tags, and quotas, remembered at once.
const TAGS_MAX: usize = 20_000;
/// Each device: this many grants at once, then one each `DEVICE_REFILL_MS`.
const DEVICE_BURST: u32 = 12;
const DEVICE_REFILL_MS: u32 = 5_000;
/// Each /24 or /48: the same.
const SUBNET_BURST: u32 = 60;
const SUBNET_REFILL_MS: u32 = 1_000;

#[derive(Debug)]
struct TagUse {
    devices: Vec<DeviceKey>,
    until_ms: u64,
}

/// What was granted, for as long as it can be used to allocate.
#[derive(Debug, Default)]
pub(super) struct Granting {
    tags: BTreeMap<CallTag, TagUse>,
    devices: BTreeMap<DeviceKey, TokenBucket>,
    subnets: BTreeMap<u64, TokenBucket>,
}

/// Why there is no grant.
enum Refusal {
    /// A third device asks for the same tag.
    TagTaken,
    /// The device or its subnet asked too often; again in so many milliseconds.
    TooOften(u64),
    Full,
}

impl Granting {
    pub(super) fn forget_expired(&mut self, now: Now) {
        self.tags.retain(|_, tag| now.mono_ms < tag.until_ms);
        self.devices.retain(|_, bucket| !bucket.is_full(now.mono_ms));
        self.subnets.retain(|_, bucket| !bucket.is_full(now.mono_ms));
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Somebody has a grant for this call here: it is in progress, or being set up by its two ends.
    pub(super) fn is_known(&self, tag: &[u8]) -> bool {
        CallTag::try_from(tag).is_ok_and(|tag| self.tags.contains_key(&tag))
    }

    /// The device has a grant for this call and asks for another.
    fn is_renewal(&self, tag: CallTag, device: DeviceKey) -> bool {
        self.tags.get(&tag).is_some_and(|known| known.devices.contains(&device))
    }

    fn admit(
        &mut self,
        tag: CallTag,
        device: DeviceKey,
        subnet: Option<u64>,
        until_ms: u64,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let known = self.tags.get(&tag);
        let again = known.is_some_and(|known| known.devices.contains(&device));
        if known.is_some_and(|known| known.devices.len() >= DEVICES_PER_TAG) && !again {
            return Err(Refusal::TagTaken);
        }
        if self.tags.len() >= TAGS_MAX || self.devices.len() >= TAGS_MAX || self.subnets.len() >= TAGS_MAX {
            return Err(Refusal::Full);
        }
        let own = self.devices.entry(device);
        let own = own.or_insert_with(|| TokenBucket::new(DEVICE_BURST, DEVICE_REFILL_MS, now_ms));
        if !own.take(now_ms) {
            return Err(Refusal::TooOften(own.wait_ms(now_ms)));
        }
        if let Some(subnet) = subnet {
            let shared = self.subnets.entry(subnet);
            let shared = shared.or_insert_with(|| TokenBucket::new(SUBNET_BURST, SUBNET_REFILL_MS, now_ms));
            if !shared.take(now_ms) {
                return Err(Refusal::TooOften(shared.wait_ms(now_ms)));
            }
        }
        let used = self.tags.entry(tag).or_insert_with(|| TagUse { devices: Vec::new(), until_ms });
        used.until_ms = until_ms;
        if !again {
            used.devices.push(device);
        }
        Ok(())
    }
}

impl Service {
    pub(super) fn handle_grant_request(
        &mut self,
        client: ClientRef,
        id: u64,
        request: &GrantRequest,
        now: Now,
    ) {
        let Some(state) = self.clients.get(&client) else { return };
        let (device, subnet) = (state.device(), state.subnet);
        let is_device = state.phase == Phase::Device;
        let Ok(tag) = <[u8; 16]>::try_from(request.call_tag.as_slice()).map(CallTag) else {
            self.fail(client, id, FailureCode::Malformed, "a call tag has 16 bytes");
            return;
        };
        if !is_device {
            self.fail(client, id, FailureCode::BadCredentials, "only devices get grants");
            return;
        }
        let relay = self.exchange.own().map(|own| own.relay().to_vec()).unwrap_or_default();
        if self.config.relay_secret.is_none() || relay.is_empty() {
            self.fail(client, id, FailureCode::NoRelay, "this supernode does not relay");
            return;
        }
        // A call that is here already may be carried on until it has moved.
        if self.reserving.is_draining() && !self.granting.is_renewal(tag, device) {
            self.busy(client, id, None, now);
            return;
        }
        let until_ms = now.mono_ms + self.config.grant_life_s * 1_000;
        match self.granting.admit(tag, device, subnet, until_ms, now.mono_ms) {
            Ok(()) => self.grant(client, id, tag, device, relay, now),
            Err(Refusal::TagTaken) => {
                self.fail(
                    client,
                    id,
                    FailureCode::QuotaExceeded,
                    "two devices have grants for this call already",
                );
            }
            Err(Refusal::TooOften(wait_ms)) => self.busy(client, id, Some(wait_ms), now),
            Err(Refusal::Full) => self.busy(client, id, None, now),
        }
    }

    fn grant(
        &mut self,
        client: ClientRef,
        id: u64,
        tag: CallTag,
        device: DeviceKey,
        relay: Vec<Vec<u8>>,
        now: Now,
    ) {
        let Some(secret) = &self.config.relay_secret else { return };
        let not_after_s = now.unix_ms / 1_000 + self.config.grant_life_s;
        let quota_bytes = self.config.grant_quota_bytes;
        let terms = GrantTerms { relay: self.config.service, device, tag, not_after_s, quota_bytes };
        let username = terms.username();
        let password = secret.password(&username);
        self.figures.grants += 1;
        self.send(client, id, Body::Grant(Grant { username, password, not_after_s, relay }));
    }
}
