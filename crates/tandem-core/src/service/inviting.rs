//! Invitations (spec/election.md): a supernode with too much to do asks a reserve to serve, and a reserve is asked.
//!
//! Whether to invite, and whether to accept, is [`crate::election::Candidacy`]'s to decide; this brings the question
//! and the answer.

use tandem_proto::ids::ServiceKey;
use tandem_proto::names::FailureCode;
use tandem_proto::signed::{Invitation, SignedError};
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{self, Heartbeat, InvitationAnswer, Signed};

use super::client::{Client, Phase};
use super::standing::Standing;
use super::{ClientRef, Command, Service};
use crate::rates::Rates;
use crate::time::Now;

/// The reserve has this long to answer, connecting included.
const ANSWER_MS_MAX: u64 = 60_000;
/// A reserve answers a little before that.
const CONSIDER_MS_MAX: u64 = 55_000;
/// Meanwhile the stream is kept alive.
const BEAT_MS: u64 = 12_000;
/// Invitations considered at once. Policy considers one; this many wait to hear that it does not.
const CONSIDERED_MAX: usize = 4;
/// Of one /24 or /48, passed on to policy.
const CONSIDERED_BURST: u32 = 3;
const CONSIDERED_REFILL_MS: u32 = 10 * 60_000;

/// The one on its way.
#[derive(Debug)]
struct Outgoing {
    invitation: Invitation,
    client: Option<ClientRef>,
    /// The request that carried it.
    sent: Option<u64>,
    beat_ms: u64,
    until_ms: u64,
}

/// One that policy considers.
#[derive(Debug)]
struct Incoming {
    inviter: ServiceKey,
    client: ClientRef,
    id: u64,
    until_ms: u64,
}

#[derive(Debug)]
pub(super) struct Inviting {
    outgoing: Option<Outgoing>,
    incoming: Vec<Incoming>,
    considered: Rates,
}

impl Default for Inviting {
    fn default() -> Self {
        let considered = Rates::new(CONSIDERED_BURST, CONSIDERED_REFILL_MS);
        Self { outgoing: None, incoming: Vec::new(), considered }
    }
}

impl Inviting {
    pub(super) fn is_idle(&self) -> bool {
        self.outgoing.is_none() && self.incoming.is_empty()
    }

    /// This stream was opened to bring an invitation.
    pub(super) fn is_for(&self, service: ServiceKey) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| outgoing.invitation.reserve() == service)
    }
}

impl Service {
    // ---- the inviter's end ----------------------------------------------------------------------------------------

    /// Brings an invitation to a reserve that announced itself. Answer: one [`Command::InvitationAnswered`]; with
    /// `accepted: false` too when it cannot be brought, or nobody answers.
    pub fn invite(&mut self, invitation: Invitation, now: Now) {
        let reserve = invitation.reserve();
        let at = self.candidates.reserve(reserve).cloned();
        self.candidates.forget_reserve(reserve);
        let able = self.standing() == Standing::Serving
            && invitation.inviter() == self.config.service
            && self.inviting.outgoing.is_none();
        let Some(at) = at.filter(|_| able) else {
            self.commands.push_back(Command::InvitationAnswered { reserve, accepted: false });
            return;
        };
        let open = |(_, state): &(&ClientRef, &Client)| {
            state.outbound && state.phase == Phase::Supernode && state.service() == reserve
        };
        let client = self.clients.iter().find(open).map(|(client, _)| *client);
        let (beat_ms, until_ms) = (now.mono_ms + BEAT_MS, now.mono_ms + ANSWER_MS_MAX);
        self.inviting.outgoing = Some(Outgoing { invitation, client, sent: None, beat_ms, until_ms });
        match client {
            Some(_) => self.bring_invitation(now),
            None if self.exchange.may_contact(reserve, now.mono_ms) => {
                self.commands.push_back(Command::Connect(at));
            }
            None => self.invitation_ended(false, now),
        }
        self.tick_ms = now.mono_ms;
        self.drive(now);
    }

    /// The stream to the reserve opened; its hello is still to come.
    pub(super) fn invitation_stream(&mut self, client: ClientRef, service: ServiceKey) {
        if self.inviting.is_for(service)
            && let Some(outgoing) = &mut self.inviting.outgoing
        {
            outgoing.client.get_or_insert(client);
        }
    }

    /// Hellos are exchanged: sends it, if that is the reserve.
    pub(super) fn bring_invitation(&mut self, now: Now) {
        let Some(outgoing) = self.inviting.outgoing.as_mut().filter(|outgoing| outgoing.sent.is_none())
        else {
            return;
        };
        let Some(client) = outgoing.client else { return };
        if self.clients.get(&client).is_none_or(|state| state.phase != Phase::Supernode) {
            return;
        }
        let id = self.exchange.next_id();
        outgoing.sent = Some(id);
        outgoing.beat_ms = now.mono_ms + BEAT_MS;
        let invitation = Some(outgoing.invitation.signed().clone());
        self.send(client, id, Body::Invitation(wire::Invitation { invitation }));
    }

    /// A frame came on a stream that this node opened. True: it was about the invitation.
    pub(super) fn is_invitation_answer(&mut self, client: ClientRef, id: u64, body: &Body, now: Now) -> bool {
        let Some(outgoing) = &self.inviting.outgoing else { return false };
        if outgoing.client != Some(client) || outgoing.sent != Some(id) {
            return false;
        }
        let accepted = matches!(body, Body::InvitationAnswer(InvitationAnswer { accepted: true }));
        self.invitation_ended(accepted, now);
        true
    }

    /// No stream to that supernode was opened, or it is gone.
    pub(super) fn invitation_lost(&mut self, service: ServiceKey, client: Option<ClientRef>, now: Now) {
        let carried = |outgoing: &Outgoing| outgoing.client == client;
        if self.inviting.is_for(service) && self.inviting.outgoing.as_ref().is_some_and(carried) {
            self.invitation_ended(false, now);
        }
    }

    fn invitation_ended(&mut self, accepted: bool, now: Now) {
        let Some(outgoing) = self.inviting.outgoing.take() else { return };
        let reserve = outgoing.invitation.reserve();
        self.commands.push_back(Command::InvitationAnswered { reserve, accepted });
        if let Some(client) = outgoing.client
            && self.clients.get(&client).is_some_and(|state| state.for_invitation)
        {
            self.commands.push_back(Command::Close(client));
            self.forget(client, now);
        }
    }

    // ---- the reserve's end ----------------------------------------------------------------------------------------

    pub(super) fn handle_invitation(
        &mut self,
        client: ClientRef,
        id: u64,
        invitation: Option<&Signed>,
        now: Now,
    ) {
        let Some(state) = self.clients.get(&client) else { return };
        let (inviter, subnet, network) = (state.service(), state.subnet, state.network);
        if state.phase != Phase::Supernode {
            self.fail(client, id, FailureCode::BadCredentials, "only supernodes invite");
            return;
        }
        let known = self.inviting.incoming.iter().any(|incoming| incoming.inviter == inviter);
        let room = self.standing() == Standing::Standby
            && !known
            && self.inviting.incoming.len() < CONSIDERED_MAX
            && self.inviting.considered.take(subnet, now.mono_ms).is_ok();
        if !room {
            self.send(client, id, Body::InvitationAnswer(InvitationAnswer { accepted: false }));
            return;
        }
        let signed = invitation.ok_or(SignedError::Missing);
        let verified =
            signed.and_then(|signed| Invitation::verify(signed, inviter, self.config.service, now.unix_ms));
        match verified {
            Ok(invitation) => {
                let until_ms = now.mono_ms + CONSIDER_MS_MAX;
                self.inviting.incoming.push(Incoming { inviter, client, id, until_ms });
                self.figures.invitations += 1;
                self.commands.push_back(Command::Invited { invitation, network });
            }
            Err(error) => {
                let code = match error {
                    SignedError::BadSignature
                    | SignedError::OtherReserve
                    | SignedError::Expired { .. }
                    | SignedError::LivesTooLong { .. } => self.blame(client, FailureCode::BadCredentials),
                    _ => FailureCode::Malformed,
                };
                self.fail(client, id, code, &error.to_string());
            }
        }
    }

    /// What this node makes of that supernode's [`Command::Invited`]. Without a word it hears no after 55 s.
    pub fn answer_invitation(&mut self, inviter: ServiceKey, accepted: bool, now: Now) {
        self.answer_invitations(accepted, |incoming| incoming.inviter == inviter);
        self.drive(now);
    }

    fn answer_invitations(&mut self, accepted: bool, which: impl Fn(&Incoming) -> bool) {
        let answered = self.inviting.incoming.extract_if(.., |incoming| which(incoming));
        let answered: Vec<Incoming> = answered.collect();
        for incoming in answered.iter().filter(|incoming| self.clients.contains_key(&incoming.client)) {
            let answer = Body::InvitationAnswer(InvitationAnswer { accepted });
            let frame = wire::HomeFrame { id: incoming.id, body: Some(answer) };
            self.commands.push_back(Command::Send { client: incoming.client, frame });
        }
    }

    // ---- both -----------------------------------------------------------------------------------------------------

    pub(super) fn drive_inviting(&mut self, now: Now) {
        self.inviting.considered.forget_full(now.mono_ms);
        self.answer_invitations(false, |incoming| now.mono_ms >= incoming.until_ms);
        let Some(outgoing) = &mut self.inviting.outgoing else { return };
        if now.mono_ms >= outgoing.until_ms {
            self.invitation_ended(false, now);
        } else if let Some(client) = outgoing.client.filter(|_| outgoing.sent.is_some())
            && now.mono_ms >= outgoing.beat_ms
        {
            outgoing.beat_ms = now.mono_ms + BEAT_MS;
            let id = self.exchange.next_id();
            self.send(client, id, Body::Heartbeat(Heartbeat { in_call: false }));
        }
    }

    /// It serves no longer, or begins to: what was invited or considered before is answered.
    pub(super) fn end_invitations(&mut self, now: Now) {
        self.answer_invitations(false, |_| true);
        self.invitation_ended(false, now);
    }
}
