//! What puts and look-ups showed.

use std::collections::{BTreeMap, VecDeque};

use tandem_proto::ids::AccountKey;
use tandem_proto::record::ReachRecord;

/// Accounts whose newest record is remembered, so that nobody can show this node an older one.
const SEEN_MAX: usize = 1024;

/// The newest record seen of each account; the account noticed first is forgotten first.
#[derive(Default)]
pub(super) struct Seen {
    records: BTreeMap<AccountKey, ReachRecord>,
    order: VecDeque<AccountKey>,
}

impl Seen {
    pub(super) fn get(&self, account: AccountKey) -> Option<&ReachRecord> {
        self.records.get(&account)
    }

    pub(super) fn note(&mut self, record: &ReachRecord) {
        let account = record.account();
        if self.records.insert(account, record.clone()).is_none() {
            self.order.push_back(account);
            if self.order.len() > SEEN_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.records.remove(&oldest);
            }
        }
    }
}
