//! What the audit log hears from the loop: start and stop, calls, serving. Connections are told where they are.

use std::time::Duration;

use serde_json::json;
use tandem_api::{Problem, ServingState};
use tandem_proto::identity::Address;
use tandem_proto::signed::Roles;
use tokio::sync::mpsc;

use super::call_log::LiveCall;
use super::event_loop::Node;
use super::phone::call_name;
use super::supernode::Supernode;
use super::volunteering::roles_view;
use crate::messages::Code;
use crate::overlay::{DeviceCommand, ServiceCommand};
use crate::store::StoredCall;

/// A swarm that was told to end has ended by then.
const SWARM_ENDS_WITHIN: Duration = Duration::from_millis(800);

/// The swarms of a node that is ending.
pub(super) struct Swarms {
    devices: Vec<mpsc::Sender<DeviceCommand>>,
    service: Option<mpsc::Sender<ServiceCommand>>,
}

impl Swarms {
    /// Waits until they have ended, for a while.
    pub(super) async fn ended(self) {
        for swarm in self.devices {
            drop(tokio::time::timeout(SWARM_ENDS_WITHIN, swarm.closed()).await);
        }
        if let Some(swarm) = self.service {
            drop(tokio::time::timeout(SWARM_ENDS_WITHIN, swarm.closed()).await);
        }
    }
}

impl Node {
    /// Whether a new call may begin: where the policy wants every call in the log, none without it.
    pub(super) fn may_call(&self) -> Result<(), Problem> {
        match self.warden.audit().forbids_calls() {
            Some(path) => Err(Code::AuditNoCalls.with(&[("path", &path.display().to_string())])),
            None => Ok(()),
        }
    }

    /// A log that cannot be written, for a person to know.
    pub(super) fn audit_problem(&self) -> Option<Problem> {
        let path = self.warden.audit().failing()?;
        let code = if self.may_call().is_err() { Code::AuditNoCalls } else { Code::AuditFailing };
        Some(code.with(&[("path", &path.display().to_string())]))
    }

    pub(super) fn tell_start(&self) {
        let policy = self.config.policy.source.as_ref();
        let service = self.supernode.as_ref().map(|supernode| supernode.service_key().to_string());
        self.warden.audit().note(
            "start",
            json!({
                "software": crate::software(),
                "network": self.config.network,
                "account": Address(self.installation.keys.account()).to_string(),
                "device": self.installation.keys.device.public().to_string(),
                "service": service,
                "policy": policy.map(|source| source.digest.clone()),
            }),
        );
    }

    /// All swarms that run now.
    pub(super) fn swarms(&self) -> Swarms {
        let phones = [Some(&self.person), self.echo.as_ref()];
        Swarms {
            devices: phones.into_iter().flatten().map(|phone| phone.overlay().clone()).collect(),
            service: self.supernode.as_ref().map(|supernode| supernode.overlay().clone()),
        }
    }

    /// The last line of a run, on the disk before the node has ended.
    pub(super) fn tell_stop(&self) {
        self.warden.audit().note("stop", json!({}));
        self.warden.audit().close();
    }

    /// What the owner agreed to, as it is after that change.
    pub(in crate::node) fn tell_consent(&self, change: &'static str) {
        let consent = self.volunteering.consent();
        self.warden.audit().note(
            "consent",
            json!({
                "change": change,
                "terms": consent.map(|consent| consent.terms_version),
                "roles": roles_view(consent.map_or(Roles::default(), |consent| consent.roles)),
                "caps": self.volunteering.caps_view(),
            }),
        );
    }

    /// What was agreed to before this run: without one running it changes unseen.
    pub(super) fn tell_consent_at_start(&self) {
        if self.volunteering.is_suspended() {
            self.tell_consent("suspended");
        } else if self.volunteering.consent().is_some() {
            self.tell_consent("held");
        }
    }

    /// What is served to others changed.
    pub(in crate::node) fn tell_serving(&self, state: ServingState) {
        let roles = self.supernode.as_ref().map(Supernode::roles).unwrap_or_default();
        let roles = [("directory", Roles::DIRECTORY), ("relay", Roles::RELAY)]
            .map(|(name, role)| (name, roles.contains(role)));
        let roles: Vec<&str> = roles.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect();
        self.warden.audit().note("serving", json!({ "state": state, "roles": roles }));
    }

    pub(super) fn tell_call_begun(&self, call: &LiveCall) {
        self.warden.audit().note(
            "call_begun",
            json!({
                "call": call_name(call.id),
                "direction": call.direction(),
                "account": Address(call.account).to_string(),
            }),
        );
    }

    pub(super) fn tell_call_ended(&self, call: &StoredCall) {
        self.warden.audit().note(
            "call_ended",
            json!({
                "call": call.id,
                "direction": call.direction,
                "account": Address(call.account).to_string(),
                "connected": call.result.connected,
                "reason": call.reason,
                "lasted_ms": call.ended_unix_ms.saturating_sub(call.started_unix_ms),
                "packets_sent": call.result.packets.sent,
                "packets_received": call.result.packets.received,
            }),
        );
    }
}
