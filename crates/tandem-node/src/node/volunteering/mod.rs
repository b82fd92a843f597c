//! The owner's side of serving: what was agreed to, what is allowed, and what was served.
//!
//! [`Volunteering`] decides nothing about the network: it tells the election what the owner says (`consent`, `caps`),
//! takes the totals of what serves, and keeps the ledger.

mod hours;
mod ledger;
mod requests;
#[cfg(test)]
mod tests;

use tandem_api::{
    CandidateView, CapsChange, CapsView, ConsentView, LedgerLine, LedgerView, MissingView, NewConsent,
    Problem, ServingState, VolunteerRole, VolunteerView,
};
use tandem_core::election::{self, Consent, Hours, Missing, Role};
use tandem_core::time::Now;
use tandem_proto::signed::Roles;

use crate::config;
use crate::messages::{Code, TERMS_TEXT, missing_text};
use crate::platform::local_time::{day_of, day_text, month_begins, utc_offset_min};
use crate::store::{LEDGER_DAYS_MAX, Store, StoreError, StoredCaps, StoredConsent};
use ledger::Ledger;
pub(crate) use ledger::Totals;

/// Consent, caps and ledger of one node.
#[derive(Debug)]
pub struct Volunteering {
    /// The number of the terms now.
    terms: u32,
    settings: config::Volunteer,
    /// The owner has said something else in this run than the settings do.
    settings_overruled: bool,
    consents: Vec<StoredConsent>,
    caps: StoredCaps,
    ledger: Ledger,
    changed: bool,
}

/// What is served at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ServedNow {
    pub(crate) state: ServingState,
    pub(crate) devices: usize,
    pub(crate) circuits: usize,
    pub(crate) allocations: usize,
    pub(crate) calls: usize,
    /// Since the node started.
    pub(crate) bytes: u64,
}

impl Volunteering {
    /// What the store and the settings say. `terms`: the number of the terms now ([`crate::messages::TERMS`]).
    ///
    /// # Errors
    /// When the store cannot be read: nobody serves on a consent that is not known.
    pub fn new(
        store: &Store,
        settings: &config::Volunteer,
        terms: u32,
        now: Now,
    ) -> Result<Self, StoreError> {
        let month = store.ledger_since(month_begins(day_of(now.unix_ms)))?;
        Ok(Self {
            terms,
            settings: settings.clone(),
            settings_overruled: false,
            consents: store.consents()?,
            caps: store.caps()?,
            ledger: Ledger::new(&month, now),
            changed: true,
        })
    }

    /// The same where no node runs: to read what was agreed to, or to change it for the next start.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn at_rest(
        store: &Store,
        settings: &config::Volunteer,
        terms: u32,
        unix_ms: u64,
    ) -> Result<Self, StoreError> {
        Self::new(store, settings, terms, Now { mono_ms: 0, unix_ms })
    }

    // ---- for the election -----------------------------------------------------------------------------------------

    /// The number of the terms now, for `Requirements`.
    #[must_use]
    pub fn terms(&self) -> u32 {
        self.terms
    }

    /// What the owner agreed to. With older terms only: the newest of those, so that the election says what is missing.
    #[must_use]
    pub fn consent(&self) -> Option<Consent> {
        let accepted = |role: &Role| self.accepted(*role).map(|terms| (*role, terms));
        let accepted: Vec<(Role, u32)> = Role::BOTH.iter().filter_map(accepted).collect();
        let current = accepted.iter().find(|(_, terms)| *terms == self.terms);
        let terms_version = current.or_else(|| accepted.iter().max_by_key(|(_, terms)| *terms))?.1;
        let of_it = accepted.iter().filter(|(_, terms)| *terms == terms_version);
        let roles = of_it.fold(Roles::default(), |roles, (role, _)| roles.with(role.bit()));
        Some(Consent { terms_version, roles })
    }

    /// The roles to which the owner agreed under the terms as they are now; in no other may anything be served.
    #[must_use]
    pub fn agreed_roles(&self) -> Roles {
        self.consent()
            .filter(|consent| consent.terms_version == self.terms)
            .map_or(Roles::default(), |c| c.roles)
    }

    /// The settings ask this node to serve whether it is needed or not (`volunteer.roles`): if the owner agrees, and as
    /// long. The same for a whole run.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        self.settings.any()
    }

    /// What the owner allows by month and by hour, as the election wants it; the local time zone is that of now.
    #[must_use]
    pub fn election_caps(&self, unix_ms: u64) -> election::Caps {
        let caps = self.caps();
        election::Caps {
            directory_bytes_a_month: Some(caps.directory_bytes_per_month),
            relay_bytes_a_month: Some(caps.bytes_per_month),
            hours: self.caps.hours.map(|(from_min, until_min)| Hours {
                from_min,
                until_min,
                utc_offset_min: utc_offset_min(unix_ms),
            }),
        }
    }

    /// What the parts that serve may use: what was set by command, else the settings.
    #[must_use]
    pub fn caps(&self) -> config::Caps {
        let (set, settings) = (&self.caps, &self.settings.caps);
        let wanted = config::Caps {
            devices: set.devices.unwrap_or(settings.devices),
            calls: set.calls.unwrap_or(settings.calls),
            bits_per_second: set.bits_per_second.unwrap_or(settings.bits_per_second),
            bytes_per_month: set.relay_bytes_per_month.unwrap_or(settings.bytes_per_month),
            directory_bytes_per_month: set
                .directory_bytes_per_month
                .unwrap_or(settings.directory_bytes_per_month),
        };
        self.settings.policy.caps(wanted)
    }

    /// Served in this calendar month (UTC), over all runs.
    #[must_use]
    pub fn bytes_this_month(&self, role: Role) -> u64 {
        self.ledger.month_bytes(role)
    }

    /// What is served right now, of the owner's bits a second, 0 to 100.
    #[must_use]
    pub fn bandwidth_percent(&self) -> u32 {
        let percent = self.ledger.bits_per_second().saturating_mul(100) / self.caps().bits_per_second.max(1);
        u32::try_from(percent.min(100)).unwrap_or(100)
    }

    /// Consent or caps are others than at the last call of this.
    pub fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Something the owner should know.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        let accepted = self.consent().filter(|_| self.is_suspended())?.terms_version;
        let values = [("terms", &*self.terms.to_string()), ("accepted", &*accepted.to_string())];
        Some(Code::TermsChanged.with(&values))
    }

    // ---- what the owner decides -----------------------------------------------------------------------------------

    /// The owner agrees to the terms, for exactly these roles: in this run the settings do not count beside it.
    ///
    /// # Errors
    /// Other terms than those of now, no role, or a store that cannot be written; nothing has changed then.
    pub fn accept(&mut self, store: &Store, new: &NewConsent, unix_ms: u64) -> Result<(), Problem> {
        if new.terms != self.terms {
            return Err(Code::TermsNotAccepted.with(&[("terms", &self.terms.to_string())]));
        }
        if new.roles.is_empty() {
            return Err(bad("roles: name directory, relay or both; to stop, withdraw"));
        }
        let roles: Vec<Role> = new.roles.iter().map(|role| core_role(*role)).collect();
        for role in &roles {
            self.settings.policy.may_serve((*role).into()).map_err(|refusal| refusal.problem())?;
        }
        store.give_consent(&roles, new.terms, unix_ms).map_err(|error| error.problem())?;
        self.settings_overruled = true;
        self.read_consents(store)
    }

    /// The owner takes it all back: what the settings say holds again with the next start.
    ///
    /// # Errors
    /// When the store cannot be written. Nothing is served from now on all the same.
    pub fn withdraw(&mut self, store: &Store, unix_ms: u64) -> Result<(), Problem> {
        self.settings_overruled = true;
        self.changed = true;
        for consent in &mut self.consents {
            consent.withdrawn_unix_ms.get_or_insert(unix_ms);
        }
        store.withdraw_consent(unix_ms).map_err(|error| error.problem())?;
        self.read_consents(store)
    }

    /// The owner sets caps.
    ///
    /// # Errors
    /// Hours that are none, or a store that cannot be written; nothing has changed then.
    pub fn set_caps(&mut self, store: &Store, change: &CapsChange) -> Result<(), Problem> {
        let before = if change.reset { StoredCaps::default() } else { self.caps };
        let hours = match change.hours.as_deref() {
            None => before.hours,
            Some(text) => {
                hours::parse(text).map_err(|error| bad(&format!("\"{text}\" names no hours; {error}")))?
            }
        };
        let caps = StoredCaps {
            devices: change.devices.or(before.devices),
            calls: change.calls.or(before.calls),
            bits_per_second: change.bits_per_second.or(before.bits_per_second),
            directory_bytes_per_month: change.directory_bytes_per_month.or(before.directory_bytes_per_month),
            relay_bytes_per_month: change.relay_bytes_per_month.or(before.relay_bytes_per_month),
            hours,
        };
        store.set_caps(&caps).map_err(|error| error.problem())?;
        self.caps = caps;
        self.changed = true;
        Ok(())
    }

    fn read_consents(&mut self, store: &Store) -> Result<(), Problem> {
        self.consents = store.consents().map_err(|error| error.problem())?;
        self.changed = true;
        Ok(())
    }

    // ---- what was served ------------------------------------------------------------------------------------------

    /// Counts up to these totals. `serving`: the roles served in since the last count.
    pub(crate) fn count(&mut self, totals: Totals, serving: Roles, now: Now) {
        self.ledger.count(totals, serving, now);
    }

    /// Writes the ledger, if it is time.
    pub(crate) fn write_when_due(&mut self, store: &Store, now: Now) {
        if !self.ledger.due(now.mono_ms).is_empty() {
            self.write(store, now);
        }
    }

    /// Writes the ledger. A disk that fails costs the lines of this time only if the node ends before it works again.
    pub(crate) fn write(&mut self, store: &Store, now: Now) {
        let written = store.add_to_ledger(self.ledger.unwritten());
        if let Err(error) = &written {
            tracing::warn!(%error, "the ledger of what was served cannot be written");
        }
        self.ledger.written(written.is_ok(), now.mono_ms);
    }

    // ---- what the owner sees --------------------------------------------------------------------------------------

    /// How it stands where no node runs.
    #[must_use]
    pub fn view_at_rest(&self) -> VolunteerView {
        self.view(&ServedNow::default())
    }

    pub(crate) fn view(&self, served: &ServedNow) -> VolunteerView {
        let caps = self.caps();
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        VolunteerView {
            terms: self.terms,
            terms_text: TERMS_TEXT.to_owned(),
            accepted: self.consent().map(|consent| consent.terms_version),
            roles: roles_view(self.consent().map_or(Roles::default(), |consent| consent.roles)),
            state: served.state,
            devices_served: small(served.devices),
            circuits: small(served.circuits),
            allocations: small(served.allocations),
            bytes_served: served.bytes,
            bytes_this_month: self.bytes_this_month(Role::Relay),
            calls_cap: caps.calls,
            bits_per_second_cap: caps.bits_per_second,
            bytes_per_month_cap: caps.bytes_per_month,
            consents: self.consent_views(),
            suspended: self.is_suspended(),
            from_settings: self.is_steady(),
            caps: self.caps_view(),
            directory_bytes_this_month: self.bytes_this_month(Role::Directory),
            calls: small(served.calls),
            bits_per_second: self.ledger.bits_per_second(),
            missing: Vec::new(),
            candidate: CandidateView::default(),
        }
    }

    /// What holds now, of what was set by command and of the settings.
    pub(crate) fn caps_view(&self) -> CapsView {
        let caps = self.caps();
        CapsView {
            devices: caps.devices,
            calls: caps.calls,
            bits_per_second: caps.bits_per_second,
            directory_bytes_per_month: caps.directory_bytes_per_month,
            relay_bytes_per_month: caps.bytes_per_month,
            hours: self.caps.hours.map(hours::text),
        }
    }

    fn consent_views(&self) -> Vec<ConsentView> {
        let stored = self.consents.iter().map(|consent| ConsentView {
            role: api_role(consent.role),
            terms: consent.terms,
            given_unix_ms: Some(consent.given_unix_ms),
            withdrawn_unix_ms: consent.withdrawn_unix_ms,
        });
        let of_settings = |role: &Role| Some((api_role(*role), self.settings_terms(*role)?));
        let settings = Role::BOTH.iter().filter_map(of_settings).map(|(role, terms)| ConsentView {
            role,
            terms,
            given_unix_ms: None,
            withdrawn_unix_ms: None,
        });
        stored.chain(settings).collect()
    }

    // ---- inside ---------------------------------------------------------------------------------------------------

    /// The owner agreed, and to none of it under the terms of now.
    pub(crate) fn is_suspended(&self) -> bool {
        self.consent().is_some_and(|consent| consent.terms_version != self.terms)
    }

    /// The terms under which the owner agreed to that role: those of now, if to those too.
    fn accepted(&self, role: Role) -> Option<u32> {
        // A policy that came later overrules what was agreed to before.
        self.settings.policy.may_serve(role.into()).ok()?;
        let given =
            self.consents.iter().filter(|given| given.role == role && given.withdrawn_unix_ms.is_none());
        let terms = given.map(|given| given.terms).chain(self.settings_terms(role));
        terms.max_by_key(|terms| (*terms == self.terms, *terms))
    }

    fn settings_terms(&self, role: Role) -> Option<u32> {
        let asked = match role {
            Role::Directory => self.settings.directory,
            Role::Relay => self.settings.relay,
        };
        self.settings.accept_terms.filter(|_| asked && !self.settings_overruled)
    }
}

/// What was served in the last days, of which today is one. `node`: the counting of a running node, whose last minute
/// is not written yet.
///
/// # Errors
/// When the store cannot be read.
pub fn ledger(store: &Store, days: u64, unix_ms: u64) -> Result<LedgerView, StoreError> {
    let first = (day_of(unix_ms) + 1).saturating_sub(days.clamp(1, LEDGER_DAYS_MAX));
    let lines = store.ledger_since(first)?.into_iter().map(|row| LedgerLine {
        day: day_text(row.day),
        role: api_role(row.role),
        bytes: row.amounts.bytes,
        devices: row.amounts.devices,
        calls: row.amounts.calls,
        circuits: row.amounts.circuits,
        lookups: row.amounts.lookups,
        checks: row.amounts.checks,
        served_ms: row.amounts.served_ms,
    });
    Ok(LedgerView { days_kept: LEDGER_DAYS_MAX, lines: lines.collect() })
}

fn bad(detail: &str) -> Problem {
    Code::BadRequest.with(&[("detail", detail)])
}

fn core_role(role: VolunteerRole) -> Role {
    match role {
        VolunteerRole::Directory => Role::Directory,
        VolunteerRole::Relay => Role::Relay,
    }
}

/// A role as the API has it.
pub(crate) fn api_role(role: Role) -> VolunteerRole {
    match role {
        Role::Directory => VolunteerRole::Directory,
        Role::Relay => VolunteerRole::Relay,
    }
}

/// Roles as the API has them.
pub(crate) fn roles_view(roles: Roles) -> Vec<VolunteerRole> {
    Role::BOTH.into_iter().filter(|role| roles.contains(role.bit())).map(api_role).collect()
}

/// What keeps this node from serving, for [`VolunteerView`]: what is missing in every role once, without a role.
#[must_use]
pub fn missing_views(of: impl Fn(Role) -> Vec<Missing>, roles: Roles) -> Vec<MissingView> {
    let asked = Role::BOTH.into_iter().filter(|role| roles.contains(role.bit()));
    let lists: Vec<(Role, Vec<Missing>)> = asked.map(|role| (role, of(role))).collect();
    let everywhere = |missing: &Missing| lists.iter().all(|(_, list)| list.contains(missing));
    let mut views: Vec<MissingView> = Vec::new();
    for (role, missing) in
        lists.iter().flat_map(|(role, list)| list.iter().map(move |missing| (role, missing)))
    {
        let (what, text) = missing_text(missing);
        let role = (!everywhere(missing)).then(|| api_role(*role));
        let view = MissingView { role, what: what.to_owned(), text };
        if !views.contains(&view) {
            views.push(view);
        }
    }
    views
}
