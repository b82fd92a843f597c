//! What this installation knows to be private: names, labels, messages. No rule could find them in a log.

use std::path::Path;

use tandem_api::{Contact, ContactRequest, InvitationView};

use super::Redactor;
use crate::node::device_labels;
use crate::store::{Store, StoreError};
use crate::{keys, why};

/// Calls of the history that are looked through for labels of devices; it keeps no more.
const CALLS_MAX: u32 = 10_000;

/// From a store, or from a running node's answers.
#[derive(Debug, Clone, Default)]
pub struct Private {
    pub contacts: Vec<Contact>,
    pub requests: Vec<ContactRequest>,
    pub invitations: Vec<InvitationView>,
    /// Of the account's devices, revoked ones too where they are known.
    pub labels: Vec<String>,
}

impl Private {
    /// What a store holds that nobody else has open.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn of_store(store: &Store) -> Result<Self, StoreError> {
        let calls = store.calls(CALLS_MAX)?;
        let mut labels = device_labels(store);
        labels.extend(calls.into_iter().filter_map(|call| call.result.answered_by));
        Ok(Self {
            contacts: store.contacts()?,
            requests: store.requests()?,
            invitations: store.invitations()?,
            labels,
        })
    }

    /// Adds what the files of a data folder tell besides: this device's label, and names and labels in reports of calls.
    pub fn add_files(&mut self, data: &Path, redactor: &mut Redactor) {
        self.labels.extend(keys::label(data));
        for report in why::reports(data).iter().filter_map(|path| why::read_report(path)) {
            redactor.know(&report.call.name.unwrap_or_default(), "name");
            self.labels.extend(report.call.result.answered_by);
        }
    }

    /// From now on all of it is replaced.
    pub fn teach(&self, redactor: &mut Redactor) {
        for contact in &self.contacts {
            redactor.know(&contact.name, "name");
            redactor.know(&contact.note, "words");
            redactor.know(contact.address.trim_start_matches("tandem:"), "key");
        }
        for request in &self.requests {
            redactor.know(&request.claimed_name, "name");
            redactor.know(&request.message, "words");
        }
        for invitation in &self.invitations {
            redactor.know_exactly(&invitation.label, "words");
        }
        for label in &self.labels {
            redactor.know_exactly(label, "device");
        }
    }
}
