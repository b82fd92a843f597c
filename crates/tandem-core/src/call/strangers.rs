//! Who may ring, and what becomes of those who may not (spec/signalling.md, "Strangers"): invitations, blocking, silent
//! requests.
//!
//! Nothing here grows with the number of strangers: one list of requests, one of proofs of this hour, both bounded. And
//! nothing that a blocked account can see differs from what any other stranger sees.

use std::collections::{BTreeMap, VecDeque};

use tandem_proto::identity::InvitedCall;
use tandem_proto::ids::AccountKey;
use tandem_proto::request::{BITS_MAX, Challenge, MESSAGE_BYTES_MAX, PROOF_LEN, SALT_LEN, salt};
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{ContactRequest, Offer, RequestAnswer};

use super::incoming::printable;
use super::signal::TEXT_BYTES_MAX;
use super::trust::Peer;
use super::types::{
    Command, Invitation, InvitationId, KeptRequest, NewRequest, SignalId, StrangerRules, Strangers,
};
use super::{Calls, Fault};
use crate::backoff::TokenBucket;
use crate::time::Now;

/// Open requests kept; one more pushes the weakest out.
pub const REQUESTS_MAX: usize = 100;
/// Accounts whose request was declined, and whose next ones are passed over.
pub const DECLINED_MAX: usize = 1_000;
/// Invitations that count at once.
pub const INVITATIONS_MAX: usize = 100;
/// Different accounts that one invitation can let in.
pub const INVITATION_USES_MAX: u32 = 100;

/// A salt is of use for this hour and the next, in milliseconds.
const EPOCH_MS: u64 = 3_600_000;
/// Accounts whose proof of this epoch was seen: it does not count twice.
const SPENT_MAX: usize = 1_024;
/// Proofs that hold and are taken: so many at once, then one each `CHECK_EVERY_MS`.
const CHECKS_MAX: u32 = 100;
const CHECK_EVERY_MS: u32 = 20;
/// Wrong proofs of one account within [`WRONG_MS`]; its next are not looked at.
const WRONG_MAX: usize = 3;
/// In milliseconds.
const WRONG_MS: u64 = 60_000;
/// Wrong proofs remembered of all accounts.
const WRONG_KEPT_MAX: usize = 256;
/// Requests within an hour from which on one more bit is asked for, doubling each time.
const BUSY_FROM: usize = 8;
/// Bits added when very many come.
const BITS_ADDED_MAX: u8 = 4;

/// What a `RequestAnswer` says (spec/signalling.md, "Silent requests").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestStatus {
    Prove = 1,
    Left = 2,
    Later = 3,
    Closed = 4,
}

/// Why a call may ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Contact,
    Invited(InvitationId),
    /// Strangers ring here.
    Stranger,
}

/// The door: what is known of accounts that are no contacts.
#[derive(Debug)]
pub(super) struct Door {
    rules: StrangerRules,
    /// From which salts are made.
    secret: [u8; 32],
    /// Sorted.
    blocked: Vec<AccountKey>,
    invitations: Vec<Invitation>,
    requests: BTreeMap<AccountKey, KeptRequest>,
    /// Account and epoch of proofs seen, oldest first.
    spent: VecDeque<(AccountKey, u64)>,
    /// When proofs came (monotonic milliseconds), oldest first.
    recent: VecDeque<u64>,
    checks: TokenBucket,
    /// Who showed a wrong proof, and when (monotonic milliseconds), oldest first.
    wrong: VecDeque<(AccountKey, u64)>,
}

/// What a request comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Considered {
    status: RequestStatus,
    /// Its proof holds and was not seen before.
    fresh: bool,
    /// Nothing more is heard on this stream.
    closes: bool,
}

impl Considered {
    fn as_said(status: RequestStatus) -> Self {
        Self { status, fresh: false, closes: status != RequestStatus::Prove }
    }
}

impl Door {
    pub(super) fn new(rules: StrangerRules, secret: [u8; 32]) -> Self {
        Self {
            rules,
            secret,
            blocked: Vec::new(),
            invitations: Vec::new(),
            requests: BTreeMap::new(),
            spent: VecDeque::new(),
            recent: VecDeque::new(),
            checks: TokenBucket::new(CHECKS_MAX, CHECK_EVERY_MS, 0),
            wrong: VecDeque::new(),
        }
    }

    /// Whether a caller who is no contact may ring; `None`: it is refused.
    fn admit(&self, call: &InvitedCall, proof: &[u8], now: Now) -> Option<Admission> {
        if self.blocked.binary_search(&call.caller).is_ok() {
            return None;
        }
        if let Some(invitation) = self.invitation(call, proof, now) {
            return Some(Admission::Invited(invitation));
        }
        (self.rules.mode == Strangers::Ring).then_some(Admission::Stranger)
    }

    /// The invitation that a proof is of: all are tried, at most [`INVITATIONS_MAX`].
    fn invitation(&self, call: &InvitedCall, proof: &[u8], now: Now) -> Option<InvitationId> {
        if proof.is_empty() {
            return None;
        }
        let known = self.invitations.iter().find(|known| known.hash.proves(proof, call))?;
        let lives = now.unix_ms < known.not_after_unix_ms;
        let has_room = known.accounts.contains(&call.caller) || known.accounts.len() < known.uses as usize;
        (lives && has_room).then_some(known.id)
    }

    /// Counts an account as let in by this invitation; false when it was before.
    fn note_use(&mut self, id: InvitationId, account: AccountKey) -> bool {
        let known = self.invitations.iter_mut().find(|known| known.id == id);
        let fresh = known.filter(|known| !known.accounts.contains(&account));
        fresh.map(|known| known.accounts.push(account)).is_some()
    }

    /// How many bits are asked for now: the more proofs came within the hour, the more.
    fn bits(&mut self, now: Now) -> u8 {
        while self.recent.front().is_some_and(|at| at + EPOCH_MS <= now.mono_ms) {
            self.recent.pop_front();
        }
        let mut added = 0;
        while added < BITS_ADDED_MAX && self.recent.len() >= BUSY_FROM << added {
            added += 1;
        }
        (self.rules.request_bits + added).min(BITS_MAX)
    }

    /// What to say to a request. What costs nothing is looked at first, so that who has done no work cannot use up what
    /// is there for those who have.
    fn consider(
        &mut self,
        own: AccountKey,
        from: AccountKey,
        request: &ContactRequest,
        now: Now,
    ) -> Considered {
        if self.rules.mode == Strangers::Refuse {
            return Considered::as_said(RequestStatus::Closed);
        }
        let Ok(proof) = <[u8; PROOF_LEN]>::try_from(request.proof.as_slice()) else {
            return Considered::as_said(RequestStatus::Prove);
        };
        let bits = self.bits(now);
        let claimed = u8::try_from(request.bits).unwrap_or(u8::MAX);
        if claimed < bits {
            return Considered::as_said(RequestStatus::Prove);
        }
        if self.guesses(from, now) {
            return Considered::as_said(RequestStatus::Later);
        }
        let epoch = now.unix_ms / EPOCH_MS;
        let holds = |epoch: &u64| {
            let salt = salt(&self.secret, from, *epoch);
            Challenge::new(&self.rules.network, own, from, &salt, claimed).verifies(&proof)
        };
        let Some(epoch) = [epoch, epoch.saturating_sub(1)].into_iter().find(holds) else {
            self.note_wrong(from, now);
            return Considered { status: RequestStatus::Prove, fresh: false, closes: true };
        };
        // Only work that was done counts: nobody uses this up with proofs that are none.
        if !self.checks.take(now.mono_ms) {
            return Considered::as_said(RequestStatus::Later);
        }
        let fresh = self.spend(from, epoch, now);
        Considered { status: RequestStatus::Left, fresh, closes: true }
    }

    /// Whether this account has shown too many wrong proofs lately.
    fn guesses(&mut self, account: AccountKey, now: Now) -> bool {
        while self.wrong.front().is_some_and(|(_, at)| at + WRONG_MS <= now.mono_ms) {
            self.wrong.pop_front();
        }
        self.wrong.iter().filter(|(wrong, _)| *wrong == account).count() >= WRONG_MAX
    }

    fn note_wrong(&mut self, account: AccountKey, now: Now) {
        if self.wrong.len() >= WRONG_KEPT_MAX {
            self.wrong.pop_front();
        }
        self.wrong.push_back((account, now.mono_ms));
    }

    /// Notes a proof; false when this account's of this epoch was seen already.
    fn spend(&mut self, account: AccountKey, epoch: u64, now: Now) -> bool {
        if self.spent.contains(&(account, epoch)) {
            return false;
        }
        if self.spent.len() >= SPENT_MAX {
            self.spent.pop_front();
        }
        self.spent.push_back((account, epoch));
        if self.recent.len() >= BUSY_FROM << BITS_ADDED_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(now.mono_ms);
        true
    }

    /// Keeps a request whose proof holds. `None`: it is passed over, and nobody is told.
    fn keep(&mut self, from: AccountKey, request: &ContactRequest, now: Now) -> Option<NewRequest> {
        if self.blocked.binary_search(&from).is_ok() || self.requests.contains_key(&from) {
            return None;
        }
        let bits = u8::try_from(request.bits).unwrap_or(u8::MAX).min(BITS_MAX);
        let open = self.requests.values().filter(|kept| !kept.declined);
        let full = open.clone().count() >= REQUESTS_MAX;
        let weakest = open.min_by_key(|kept| (kept.bits, kept.at_unix_ms)).filter(|_| full).copied();
        if weakest.is_some_and(|weakest| weakest.bits > bits) {
            return None;
        }
        let replaces = weakest.map(|weakest| weakest.account);
        if let Some(replaced) = replaces {
            self.requests.remove(&replaced);
        }
        let kept = KeptRequest { account: from, bits, at_unix_ms: now.unix_ms, declined: false };
        self.requests.insert(from, kept);
        Some(NewRequest {
            kept,
            name: printable(&request.display_name),
            message: printable(&request.message),
            replaces,
        })
    }

    fn answer(&mut self, status: RequestStatus, from: AccountKey, now: Now) -> RequestAnswer {
        let mut answer = RequestAnswer { status: status as u32, ..RequestAnswer::default() };
        if status == RequestStatus::Prove {
            answer.salt = salt(&self.secret, from, now.unix_ms / EPOCH_MS).to_vec();
            answer.bits = u32::from(self.bits(now));
        }
        answer
    }
}

impl Calls {
    /// What happens when strangers call, from now on.
    pub fn set_strangers(&mut self, strangers: Strangers) {
        self.door.rules.mode = strangers;
    }

    /// Accounts that neither ring nor leave requests. A contact among them is treated as a stranger: leave it out of
    /// [`Self::set_contacts`].
    pub fn set_blocked(&mut self, mut blocked: Vec<AccountKey>) {
        blocked.sort_unstable();
        self.door.blocked = blocked;
    }

    /// The invitations that are out. At most [`INVITATIONS_MAX`] count.
    pub fn set_invitations(&mut self, mut invitations: Vec<Invitation>) {
        invitations.truncate(INVITATIONS_MAX);
        self.door.invitations = invitations;
    }

    /// The requests that are kept, open and declined ones: from the store, and after each decision of the person.
    pub fn set_requests(&mut self, requests: Vec<KeptRequest>) {
        self.door.requests = requests
            .into_iter()
            .take(REQUESTS_MAX + DECLINED_MAX)
            .map(|request| (request.account, request))
            .collect();
    }

    /// Whether this caller may ring here.
    pub(super) fn admit(&self, peer: &Peer, offer: &Offer, now: Now) -> Option<Admission> {
        if self.is_contact(peer.account) {
            return Some(Admission::Contact);
        }
        let call = InvitedCall {
            caller: peer.account,
            callee: self.config.account,
            device: self.config.device,
            call: offer.call_id.as_slice().try_into().ok()?,
        };
        self.door.admit(&call, &offer.invitation, now)
    }

    pub(super) fn strangers_ring(&self) -> bool {
        self.door.rules.mode == Strangers::Ring
    }

    /// A call rings by this invitation.
    pub(super) fn use_invitation(&mut self, invitation: InvitationId, account: AccountKey) {
        if self.door.note_use(invitation, account) {
            self.out.push(Command::InvitationUsed { invitation, account });
        }
    }

    /// Whether the media description goes to this caller before somebody picks up.
    pub(super) fn shows_media_early(&self, contact: bool) -> bool {
        contact || self.door.rules.early_media
    }

    /// A stranger wants to be let in one day: nobody is told of it, it is only kept.
    pub(super) fn on_contact_request(
        &mut self,
        signal: SignalId,
        peer: Peer,
        request: &ContactRequest,
        now: Now,
    ) -> Result<(), Fault> {
        check_request(request)?;
        let from = peer.account;
        let Considered { status, fresh, closes } =
            self.door.consider(self.config.account, from, request, now);
        let answer = self.door.answer(status, from, now);
        self.out.send(signal, Body::RequestAnswer(answer));
        let known = from == self.config.account || self.is_contact(from);
        if fresh
            && !known
            && let Some(new) = self.door.keep(from, request, now)
        {
            self.out.push(Command::KeepRequest(new));
        }
        let in_call = self.streams.get(&signal).is_some_and(|stream| stream.leg.is_some());
        if closes && !in_call {
            self.drop_stream(signal);
        }
        Ok(())
    }
}

fn check_request(request: &ContactRequest) -> Result<(), Fault> {
    if !matches!(request.proof.len(), 0 | PROOF_LEN) {
        return Err(Fault::protocol("the proof of its request is not 8 bytes long"));
    }
    if request.display_name.len() > TEXT_BYTES_MAX || request.message.len() > MESSAGE_BYTES_MAX {
        return Err(Fault::protocol("the name or the message of its request is too long"));
    }
    Ok(())
}

/// What a `RequestAnswer` asks for, if it can be done.
pub(super) fn asked_for(answer: &RequestAnswer) -> Option<([u8; SALT_LEN], u8)> {
    let salt = answer.salt.as_slice().try_into().ok()?;
    let bits = u8::try_from(answer.bits).ok().filter(|bits| *bits <= BITS_MAX)?;
    Some((salt, bits))
}
