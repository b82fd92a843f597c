//! What the person decides about people who are no contacts: invitations, silent requests, blocking.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tandem_api::{
    AcceptRequest, Block, Cleared, Contact, InvitationMade, NewContact, NewInvitation, NewRequest, NodeEvent,
    Problem, SentRequest, SentState,
};
use tandem_core::call::{
    AskError, AskOutcome, CallId, INVITATION_USES_MAX, InvitationId, LegId, NewRequest as Arrived,
};
use tandem_proto::identity::{Address, InvitationSecret, Link};
use tandem_proto::ids::AccountKey;
use tandem_proto::request::{Challenge, MESSAGE_BYTES_MAX, PROOF_LEN};

use super::event_loop::{Node, announce, answer};
use super::phone::call_name;
use crate::handle::{NodeSide, StrangerRequest};
use crate::messages::{self, Code};
use crate::store::StoreError;

/// Default life of an invitation.
const INVITATION_MS: u64 = 30 * 86_400_000;
/// Longest life of an invitation.
const INVITATION_MS_MAX: u64 = 366 * 86_400_000;
/// Requests of ours remembered in this run.
const SENT_MAX: usize = 32;
/// Tries between two looks at whether the asker is still there.
const TRIES_A_STEP: u64 = 1 << 18;

/// What a worker found for a device that asked for a proof.
#[derive(Debug)]
pub(crate) struct FoundProof {
    pub(crate) leg: LegId,
    pub(crate) proof: Option<[u8; PROOF_LEN]>,
}

/// Requests of ours, oldest first.
#[derive(Debug, Default)]
pub(crate) struct SentRequests(VecDeque<SentRequest>);

impl SentRequests {
    fn add(&mut self, request: SentRequest) {
        if self.0.len() >= SENT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(request);
    }
}

impl Node {
    pub(super) fn take_stranger_request(&mut self, request: StrangerRequest, side: &NodeSide) {
        let store = &self.installation.store;
        match request {
            StrangerRequest::Invite(new, reply) => answer(reply, self.invite(&new)),
            StrangerRequest::Invitations(reply) => {
                answer(reply, store.invitations().map_err(|error| error.problem()));
            }
            StrangerRequest::Revoke { id, reply } => {
                let removed = store.remove_invitation(id).map_err(|error| error.problem());
                let result = removed.and_then(|()| self.read_people().map_err(|error| error.problem()));
                answer(reply, result);
            }
            StrangerRequest::Requests(reply) => {
                answer(reply, store.requests().map_err(|error| error.problem()));
            }
            StrangerRequest::Accept { who, accept, reply } => {
                answer(reply, self.accept_request(&who, accept, side));
            }
            StrangerRequest::Decline { who, reply } => answer(reply, self.decline_request(&who, side)),
            StrangerRequest::Clear(reply) => {
                let result = store.clear_requests().map_err(|error| error.problem());
                self.requests_changed(side);
                answer(reply, result.map(|count| Cleared { count }));
            }
            StrangerRequest::Leave(new, reply) => answer(reply, self.leave_request(&new, side)),
            StrangerRequest::Sent(reply) => answer(reply, Ok(self.sent.0.iter().rev().cloned().collect())),
            StrangerRequest::Block { who, reply } => answer(reply, self.block(&who, side)),
            StrangerRequest::Unblock { who, reply } => answer(reply, self.unblock(&who)),
            StrangerRequest::Blocks(reply) => answer(reply, store.blocks().map_err(|error| error.problem())),
        }
    }

    /// Tells the call machine who is a contact, blocked, invited and waiting; blocked contacts are strangers to it.
    ///
    /// # Errors
    /// When the store cannot be read: then all stays in force that was, so that a failing disk unblocks nobody.
    pub(super) fn read_people(&mut self) -> Result<(), StoreError> {
        let store = &self.installation.store;
        let (contacts, mut strangers) = (store.contacts()?, store.strangers()?);
        if self.config.policy.may_invite().is_err() {
            // Those made before count no more.
            strangers.invitations.clear();
        }
        let account = |contact: &Contact| Some(contact.address.parse::<Address>().ok()?.0);
        let known = || contacts.iter().filter(|contact| !contact.blocked);
        let relayed = known().filter(|contact| contact.relay_only).filter_map(account).collect();
        let accounts: Vec<AccountKey> = known().filter_map(account).collect();
        let now = self.clock.now();
        self.person.set_contacts(accounts.clone(), relayed);
        for account in accounts {
            let store = &self.installation.store;
            if let Some(seen) = super::memory::seen(store, account) {
                let set = super::memory::device_set(store, account);
                self.person.set_seen(account, seen.epoch, set.as_ref(), now);
            }
        }
        self.person.set_strangers(strangers);
        Ok(())
    }

    /// After a change of contacts or strangers that was kept already.
    pub(super) fn people_changed(&mut self) {
        if let Err(error) = self.read_people() {
            tracing::warn!(%error, "contacts, invitations and blocked accounts stay as they were: they cannot be read");
        }
    }

    /// For the status and the event: how many wait.
    pub(crate) fn requests_waiting(&self) -> u64 {
        self.installation.store.requests_waiting().unwrap_or_default()
    }

    fn requests_changed(&mut self, side: &NodeSide) {
        self.people_changed();
        announce(side, NodeEvent::RequestsWaiting { count: self.requests_waiting() });
    }

    fn invite(&mut self, new: &NewInvitation) -> Result<InvitationMade, Problem> {
        self.warden.noted(self.config.policy.may_invite()).map_err(|refusal| refusal.problem())?;
        let for_ms = new.for_ms.unwrap_or(INVITATION_MS);
        let uses = new.uses.unwrap_or(1);
        if !(1..=INVITATION_MS_MAX).contains(&for_ms) || !(1..=INVITATION_USES_MAX).contains(&uses) {
            let detail = "an invitation lasts at most a year and is for 1 to 100 people";
            return Err(Code::BadRequest.with(&[("detail", detail)]));
        }
        let secret = InvitationSecret(rand::random());
        let unix_ms = self.clock.now().unix_ms;
        let made = self.installation.store.add_invitation(
            secret.hash(),
            &new.label,
            unix_ms + for_ms,
            uses,
            unix_ms,
        );
        let invitation = made.map_err(|error| error.problem())?;
        self.read_people().map_err(|error| error.problem())?;
        let link = Link { address: Address(self.person.account()), invitation: Some(secret) };
        Ok(InvitationMade { link: link.to_string(), invitation })
    }

    fn accept_request(
        &mut self,
        who: &str,
        accept: AcceptRequest,
        side: &NodeSide,
    ) -> Result<Contact, Problem> {
        let store = &self.installation.store;
        let request = store.find_request(who).map_err(|error| error.problem())?;
        let name = accept.name.unwrap_or(request.claimed_name);
        let new = NewContact { address: request.address.clone(), name, note: request.message };
        let contact = store.add_contact(&new, self.clock.now().unix_ms).map_err(|error| error.problem())?;
        let account = resolved(&request.address)?;
        store.remove_request(account).map_err(|error| error.problem())?;
        announce(side, NodeEvent::ContactAdded { contact: contact.clone() });
        self.requests_changed(side);
        Ok(contact)
    }

    fn decline_request(&mut self, who: &str, side: &NodeSide) -> Result<(), Problem> {
        let store = &self.installation.store;
        let request = store.find_request(who).map_err(|error| error.problem())?;
        let account = resolved(&request.address)?;
        let declined = store.decline_request(account, self.clock.now().unix_ms);
        declined.map_err(|error| error.problem())?;
        self.requests_changed(side);
        Ok(())
    }

    fn block(&mut self, who: &str, side: &NodeSide) -> Result<Block, Problem> {
        let store = &self.installation.store;
        let account = store.resolve(who).map_err(|error| error.problem())?;
        if account == self.person.account() {
            return Err(Code::BlockOwn.problem());
        }
        let since_unix_ms =
            store.block(account, self.clock.now().unix_ms).map_err(|error| error.problem())?;
        let contact = store.contact(account).ok().flatten().map(|contact| contact.name);
        self.read_people().map_err(|error| error.problem())?;
        announce(side, NodeEvent::RequestsWaiting { count: self.requests_waiting() });
        Ok(Block { address: Address(account).to_string(), since_unix_ms, contact })
    }

    fn unblock(&mut self, who: &str) -> Result<(), Problem> {
        let store = &self.installation.store;
        let account = store.resolve(who).map_err(|error| error.problem())?;
        let was = store.unblock(account).map_err(|error| error.problem())?;
        self.read_people().map_err(|error| error.problem())?;
        if was { Ok(()) } else { Err(Code::NotBlocked.with(&[("who", who)])) }
    }

    fn leave_request(&mut self, new: &NewRequest, side: &NodeSide) -> Result<SentRequest, Problem> {
        let resolved = self.installation.store.resolve_link(&new.address);
        let (account, _) = resolved.map_err(|error| error.problem())?;
        let id = CallId(rand::random());
        let mut asked = Ok(());
        self.with_person(|phone, around| asked = phone.ask(id, account, &new.name, &new.message, around));
        asked.map_err(|error| match error {
            AskError::Own => Code::CallSelf.problem(),
            AskError::Busy => Code::RequestBusy.problem(),
            AskError::MessageTooLong => {
                Code::RequestTooLong.with(&[("limit", &MESSAGE_BYTES_MAX.to_string())])
            }
        })?;
        let sent = SentRequest {
            id: call_name(id),
            address: Address(account).to_string(),
            state: SentState::Working,
            devices: 0,
            why: messages::sent_request(SentState::Working).to_owned(),
            at_unix_ms: self.clock.now().unix_ms,
        };
        self.sent.add(sent.clone());
        announce(side, NodeEvent::RequestSent { request: sent.clone() });
        Ok(sent)
    }

    // ---- what the phone says ------------------------------------------------------------------------------------

    pub(super) fn take_invitation_used(&mut self, id: InvitationId, account: AccountKey) {
        let used = self.installation.store.use_invitation(id.0, account, self.clock.now().unix_ms);
        if let Err(error) = used {
            tracing::warn!(%error, "the use of an invitation could not be written down");
        }
    }

    /// A request came in: no bell, only a count.
    pub(super) fn take_arrived_request(&mut self, arrived: &Arrived, side: &NodeSide) {
        if let Err(error) = self.installation.store.add_request(arrived) {
            tracing::warn!(%error, "a request could not be kept");
        }
        announce(side, NodeEvent::RequestsWaiting { count: self.requests_waiting() });
    }

    /// Looks for a proof on a thread of its own.
    pub(super) fn solve(&mut self, leg: LegId, challenge: Challenge) {
        let found = self.proofs.clone();
        let given_up = self.begin_solving();
        let first: u64 = rand::random();
        tokio::task::spawn_blocking(move || {
            // Each step finds one with a chance of a few in a hundred; 32 times the average is more than enough.
            let steps = (32u64 << challenge.bits()).div_ceil(TRIES_A_STEP);
            let search = |step: u64| {
                let open = !found.is_closed() && !given_up.load(Ordering::Relaxed);
                open.then(|| challenge.search(first.wrapping_add(step * TRIES_A_STEP), TRIES_A_STEP))
            };
            let proof = (0..steps).map_while(search).flatten().next();
            // A loop that is gone needs no proof.
            drop(found.blocking_send(FoundProof { leg, proof }));
        });
    }

    /// One proof is looked for at a time: whoever looks for an earlier one stops.
    fn begin_solving(&mut self) -> Arc<AtomicBool> {
        self.stop_solving();
        Arc::clone(&self.solving)
    }

    fn stop_solving(&mut self) {
        std::mem::take(&mut self.solving).store(true, Ordering::Relaxed);
    }

    pub(super) fn take_asked(&mut self, id: CallId, outcome: AskOutcome, side: &NodeSide) {
        self.stop_solving();
        let name = call_name(id);
        let Some(sent) = self.sent.0.iter_mut().find(|sent| sent.id == name) else { return };
        (sent.state, sent.devices) = match outcome {
            AskOutcome::Left { devices } => (SentState::Left, devices),
            AskOutcome::Closed => (SentState::Closed, 0),
            AskOutcome::Later => (SentState::Later, 0),
            AskOutcome::TooMuchWork => (SentState::TooMuchWork, 0),
            AskOutcome::Unreachable => (SentState::Unreachable, 0),
            AskOutcome::NotFound => (SentState::NotFound, 0),
        };
        sent.why = messages::sent_request(sent.state).to_owned();
        announce(side, NodeEvent::RequestSent { request: sent.clone() });
    }

    /// The label of an invitation, for the person whom it rings.
    pub(super) fn invitation_label(&self, id: InvitationId) -> Option<String> {
        let invitations = self.installation.store.invitations().ok()?;
        invitations.into_iter().find(|invitation| invitation.id == id.0).map(|invitation| invitation.label)
    }
}

/// An address from our own store.
fn resolved(address: &str) -> Result<AccountKey, Problem> {
    let parsed = address.parse::<Address>().map(|address| address.0);
    parsed.map_err(|error| Code::Internal.with(&[("detail", &error.to_string())]))
}
