//! Publishing and looking up for devices: every record is verified before it is used, stored or handed on.

use std::collections::{BTreeMap, VecDeque};

use tandem_proto::ids::AccountKey;
use tandem_proto::names::FailureCode;
use tandem_proto::record::ReachRecord;
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{self, LookUp, LookedUp, Publish, Published};

use super::client::{Client, PENDING_MAX};
use super::revoking::account_of_set;
use super::{ClientRef, Command, Service};
use crate::time::Now;

/// Requests to the directory at once.
const PENDING_ALL_MAX: usize = 1_024;
/// Clients waiting for one look-up.
const WAITERS_MAX: usize = 64;
/// Records kept to answer from at once.
const COPIES_MAX: usize = 1_024;
/// A copy is used for this long; the directory is asked all the same.
const COPY_MS_MAX: u64 = 30 * 60_000;
const GET_MS_MAX: u64 = 6_000;
/// To find those that are to keep it, to send it and to read it back: 8 s each where some of them are dead.
const PUT_MS_MAX: u64 = 20_000;

#[derive(Debug)]
enum Purpose {
    /// All of them are told what comes.
    Get {
        waiters: Vec<(ClientRef, u64)>,
    },
    Put {
        client: ClientRef,
        id: u64,
    },
}

#[derive(Debug)]
struct Pending {
    account: AccountKey,
    purpose: Purpose,
    until_ms: u64,
}

#[derive(Debug)]
struct Copy {
    record: ReachRecord,
    since_ms: u64,
}

/// What is asked of the directory, and copies of what it said.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pending: BTreeMap<u64, Pending>,
    next_request: u64,
    copies: BTreeMap<AccountKey, Copy>,
    /// Accounts in the order in which their copies came.
    order: VecDeque<AccountKey>,
}

impl Directory {
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Forgets everything; answers to earlier requests change nothing any more.
    pub(super) fn clear(&mut self) {
        *self = Self { next_request: self.next_request, ..Self::default() };
    }

    pub(super) fn forget_client(&mut self, gone: ClientRef) {
        for pending in self.pending.values_mut() {
            if let Purpose::Get { waiters } = &mut pending.purpose {
                waiters.retain(|(client, _)| *client != gone);
            }
        }
    }

    pub(super) fn copy(&self, account: AccountKey) -> Option<&ReachRecord> {
        self.copies.get(&account).map(|copy| &copy.record)
    }

    /// Merges a verified record into the copy. Says whether that changed it.
    pub(super) fn keep(&mut self, record: &ReachRecord, now_mono_ms: u64) -> bool {
        let account = record.account();
        if let Some(copy) = self.copies.get_mut(&account) {
            copy.since_ms = now_mono_ms;
            let merged = copy.record.merge(record).expect("the copy is this account's");
            let changed = merged != copy.record;
            copy.record = merged;
            return changed;
        }
        if self.copies.len() >= COPIES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.copies.remove(&oldest);
        }
        self.copies.insert(account, Copy { record: record.clone(), since_ms: now_mono_ms });
        self.order.push_back(account);
        true
    }

    fn forget_old_copies(&mut self, now_mono_ms: u64) {
        let old = |copy: &Copy| now_mono_ms >= copy.since_ms + COPY_MS_MAX;
        self.copies.retain(|_, copy| !old(copy));
        let copies = &self.copies;
        self.order.retain(|account| copies.contains_key(account));
    }

    fn start(&mut self, account: AccountKey, purpose: Purpose, until_ms: u64) -> u64 {
        self.next_request += 1;
        self.pending.insert(self.next_request, Pending { account, purpose, until_ms });
        self.next_request
    }

    fn waiters_for(&mut self, wanted: AccountKey) -> Option<&mut Vec<(ClientRef, u64)>> {
        self.pending.values_mut().find_map(|pending| match &mut pending.purpose {
            Purpose::Get { waiters } if pending.account == wanted && waiters.len() < WAITERS_MAX => {
                Some(waiters)
            }
            _ => None,
        })
    }
}

impl Service {
    // ---- publish --------------------------------------------------------------------------------------------------

    pub(super) fn handle_publish(&mut self, client: ClientRef, id: u64, publish: Publish, now: Now) {
        if !self.may_search(client, id, now) {
            return;
        }
        let record = match self.verified(client, publish.record.as_ref(), now) {
            Ok(record) => record,
            Err((code, account, reason)) => {
                if code != FailureCode::NotReserved {
                    self.refuse_record(self.peer_of(client), account, reason.clone());
                }
                self.fail(client, id, code, &reason);
                return;
            }
        };
        let account = record.account();
        if let Some(state) = self.clients.get_mut(&client) {
            state.account = Some(account);
        }
        if self.directory.copy(account).is_some_and(|copy| is_older(&record, copy)) {
            let reason = "a newer record of this account is known here";
            self.refuse_record(self.peer_of(client), Some(account), reason.to_owned());
            self.fail(client, id, FailureCode::RecordOlder, reason);
            self.show_newer_set(client, account, now);
            return;
        }
        self.keep_record(&record, Some(client), now);
        let value = self.directory.copy(account).unwrap_or(&record).encode();
        let request = self.directory.start(account, Purpose::Put { client, id }, now.mono_ms + PUT_MS_MAX);
        self.now_pending(client, 1);
        self.commands.push_back(Command::DhtPut { request, account, value });
    }

    /// Verifies what a client wants published: all of it signed, and its own device named in it.
    fn verified(
        &self,
        client: ClientRef,
        record: Option<&wire::ReachRecord>,
        now: Now,
    ) -> Result<ReachRecord, (FailureCode, Option<AccountKey>, String)> {
        let Some(state) = self.clients.get(&client).filter(|state| state.reserved) else {
            return Err((FailureCode::NotReserved, None, "publishing is for devices reserved here".into()));
        };
        let Some((record, account)) = record.and_then(|record| Some((record, account_of(record)?))) else {
            return Err((FailureCode::Malformed, None, "the record names no account".into()));
        };
        match ReachRecord::verify(record, account, now.unix_ms, &mut Vec::new()) {
            Ok(record) if record.device_set().contains(state.device()) => Ok(record),
            Ok(_) => Err((
                FailureCode::RecordRefused,
                Some(account),
                "the record's device set does not name the device that publishes it".into(),
            )),
            Err(error) => {
                Err((self.blame(client, FailureCode::RecordRefused), Some(account), error.to_string()))
            }
        }
    }

    /// What came of a `DhtPut`: how many supernodes gave the value back.
    pub fn handle_stored(&mut self, request: u64, copies: u32, now: Now) {
        self.finish_put(request, copies);
        self.drive(now);
    }

    fn finish_put(&mut self, request: u64, copies: u32) {
        let Some(Pending { purpose: Purpose::Put { client, id }, .. }) =
            self.directory.pending.remove(&request)
        else {
            return;
        };
        self.no_longer_pending(client);
        if !self.clients.contains_key(&client) {
            return;
        }
        if copies == 0 {
            self.fail(client, id, FailureCode::NotStored, "no supernode gave the record back");
        } else {
            self.send(client, id, Body::Published(Published { copies }));
        }
    }

    // ---- look up --------------------------------------------------------------------------------------------------

    pub(super) fn handle_look_up(&mut self, client: ClientRef, id: u64, look_up: &LookUp, now: Now) {
        let Ok(account) = AccountKey::try_from(look_up.account.as_slice()) else {
            self.fail(client, id, FailureCode::Malformed, "an account key has 32 bytes");
            return;
        };
        if !self.may_search(client, id, now) {
            return;
        }
        if let Some(record) = self.directory.copy(account).map(ReachRecord::to_wire) {
            self.send(client, id, Body::LookedUp(LookedUp { record: Some(record), done: false }));
        }
        self.now_pending(client, 1);
        if let Some(waiters) = self.directory.waiters_for(account) {
            waiters.push((client, id));
            return;
        }
        let purpose = Purpose::Get { waiters: vec![(client, id)] };
        let request = self.directory.start(account, purpose, now.mono_ms + GET_MS_MAX);
        self.commands.push_back(Command::DhtGet { request, account });
    }

    /// One answer to a `DhtGet`; the last has `done`. Values are verified here once more, whoever verified before.
    pub fn handle_found(&mut self, request: u64, value: Option<&[u8]>, done: bool, now: Now) {
        let Some(account) = self.directory.pending.get(&request).map(|pending| pending.account) else {
            return;
        };
        let news = match value.map(|value| ReachRecord::decode_verified(value, account, now.unix_ms)) {
            Some(Ok(record)) => self.keep_record(&record, None, now),
            Some(Err(error)) => {
                self.refuse_record(None, Some(account), error.to_string());
                false
            }
            None => false,
        };
        if news && !done {
            self.tell_waiters(request, account, false);
        } else if done {
            self.finish_get(request);
        }
        self.drive(now);
    }

    fn tell_waiters(&mut self, request: u64, account: AccountKey, done: bool) {
        let Some(Pending { purpose: Purpose::Get { waiters }, .. }) = self.directory.pending.get(&request)
        else {
            return;
        };
        let record = self.directory.copy(account).map(ReachRecord::to_wire);
        for (client, id) in waiters.clone() {
            self.send(client, id, Body::LookedUp(LookedUp { record: record.clone(), done }));
        }
    }

    fn finish_get(&mut self, request: u64) {
        let Some(account) = self.directory.pending.get(&request).map(|pending| pending.account) else {
            return;
        };
        self.tell_waiters(request, account, true);
        if let Some(Pending { purpose: Purpose::Get { waiters }, .. }) =
            self.directory.pending.remove(&request)
        {
            for (client, _) in waiters {
                self.no_longer_pending(client);
            }
        }
    }

    // ---- bounds ---------------------------------------------------------------------------------------------------

    /// One more request to the directory: within the client's allowance and everybody's?
    pub(super) fn may_search(&mut self, client: ClientRef, id: u64, now: Now) -> bool {
        let full = self.directory.pending.len() >= PENDING_ALL_MAX;
        let Some(state) = self.clients.get_mut(&client) else { return false };
        let wait_ms = if full || state.pending >= PENDING_MAX {
            Some(1_000)
        } else if state.searches.take(now.mono_ms) {
            None
        } else {
            Some(state.searches.wait_ms(now.mono_ms))
        };
        if let Some(wait_ms) = wait_ms {
            self.busy(client, id, Some(wait_ms), now);
        }
        wait_ms.is_none()
    }

    fn now_pending(&mut self, client: ClientRef, more: u8) {
        if let Some(state) = self.clients.get_mut(&client) {
            state.pending = state.pending.saturating_add(more);
        }
    }

    fn no_longer_pending(&mut self, client: ClientRef) {
        if let Some(Client { pending, .. }) = self.clients.get_mut(&client) {
            *pending = pending.saturating_sub(1);
        }
    }

    pub(super) fn expire_directory(&mut self, now: Now) {
        self.directory.forget_old_copies(now.mono_ms);
        let late = self.directory.pending.iter().filter(|(_, pending)| now.mono_ms >= pending.until_ms);
        let late: Vec<(u64, bool)> = late
            .map(|(request, pending)| (*request, matches!(pending.purpose, Purpose::Get { .. })))
            .collect();
        for (request, is_get) in late {
            if is_get {
                self.finish_get(request);
            } else {
                self.finish_put(request, 0);
            }
        }
    }

    fn peer_of(&self, client: ClientRef) -> Option<[u8; 32]> {
        self.clients.get(&client).map(|state| state.peer)
    }

    fn refuse_record(&mut self, from: Option<[u8; 32]>, account: Option<AccountKey>, reason: String) {
        self.figures.records_refused += 1;
        self.commands.push_back(Command::RecordRefused { from, account, reason });
    }
}

/// Whose record this claims to be. Proves nothing.
fn account_of(record: &wire::ReachRecord) -> Option<AccountKey> {
    account_of_set(record.device_set.as_ref()?)
}

/// Everything in `published` is already known, and something newer is known too.
fn is_older(published: &ReachRecord, known: &ReachRecord) -> bool {
    let merged = known.merge(published);
    merged.is_ok_and(|merged| merged == *known && *published != *known && !adds_nothing(published, known))
}

/// `published` is a part of `known`: another device's entries are merely missing from it.
fn adds_nothing(published: &ReachRecord, known: &ReachRecord) -> bool {
    published.device_set() == known.device_set()
        && published.homes().iter().all(|homes| known.homes_of(homes.device()) == Some(homes))
}
