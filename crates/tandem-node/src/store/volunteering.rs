use rusqlite::{OptionalExtension, Row, params};
use tandem_core::election::Role;

use super::{Store, StoreError, from_sql, to_sql};

/// Times that the owner agreed; the oldest withdrawn ones go.
pub const CONSENTS_MAX: u64 = 100;
/// Days of the ledger, for each role.
pub const LEDGER_DAYS_MAX: u64 = 400;

/// The setting that keeps where a volunteer listens.
const LISTENING_PORT: &str = "volunteer_port";

/// Once that the owner agreed to serve in a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredConsent {
    pub role: Role,
    /// The number of the terms.
    pub terms: u32,
    pub given_unix_ms: u64,
    pub withdrawn_unix_ms: Option<u64>,
}

/// The caps that the owner set by command. `None`: not set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredCaps {
    pub devices: Option<u32>,
    pub calls: Option<u32>,
    pub bits_per_second: Option<u64>,
    pub directory_bytes_per_month: Option<u64>,
    pub relay_bytes_per_month: Option<u64>,
    /// From and until, in minutes after local midnight.
    pub hours: Option<(u16, u16)>,
}

/// What was served in a role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Directory: what its connections carried, both ways. Relay: sound forwarded, counted once.
    pub bytes: u64,
    /// The most at once.
    pub devices: u64,
    pub calls: u64,
    pub circuits: u64,
    pub lookups: u64,
    pub checks: u64,
    pub served_ms: u64,
}

impl Amounts {
    /// Adds what came later.
    pub fn add(&mut self, more: &Self) {
        self.bytes += more.bytes;
        self.devices = self.devices.max(more.devices);
        self.calls += more.calls;
        self.circuits += more.circuits;
        self.lookups += more.lookups;
        self.checks += more.checks;
        self.served_ms += more.served_ms;
    }
}

/// A line of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerRow {
    /// Days since 1970-01-01 UTC.
    pub day: u64,
    pub role: Role,
    pub amounts: Amounts,
}

impl Store {
    /// All times that the owner agreed, oldest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn consents(&self) -> Result<Vec<StoredConsent>, StoreError> {
        let sql = "SELECT role, terms, given_ms, withdrawn_ms FROM consents ORDER BY id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(StoredConsent {
                role: role(row, 0)?,
                terms: row.get(1)?,
                given_unix_ms: from_sql(row.get(2)?),
                withdrawn_unix_ms: row.get::<_, Option<i64>>(3)?.map(from_sql),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The owner agrees to serve in exactly these roles, under the terms of that number. A role that is not named is
    /// withdrawn; one that was agreed to under the same terms stays as it was.
    ///
    /// # Errors
    /// When the disk fails; then nothing has changed.
    pub fn give_consent(&self, roles: &[Role], terms: u32, unix_ms: u64) -> Result<(), StoreError> {
        let transaction = self.connection.unchecked_transaction()?;
        for one in Role::BOTH {
            let name = role_name(one);
            if !roles.contains(&one) {
                self.withdraw_role(one, unix_ms)?;
                continue;
            }
            let sql = "SELECT 1 FROM consents WHERE role = ?1 AND terms = ?2 AND withdrawn_ms IS NULL";
            let is_given = self.connection.query_row(sql, params![name, terms], |_| Ok(())).optional()?;
            if is_given.is_none() {
                let sql = "INSERT INTO consents (role, terms, given_ms) VALUES (?1, ?2, ?3)";
                self.connection.execute(sql, params![name, terms, to_sql(unix_ms)])?;
            }
        }
        let sql = "DELETE FROM consents WHERE withdrawn_ms IS NOT NULL AND id NOT IN
                   (SELECT id FROM consents ORDER BY id DESC LIMIT ?1)";
        self.connection.execute(sql, [to_sql(CONSENTS_MAX)])?;
        transaction.commit()?;
        Ok(())
    }

    /// The owner takes back whatever was agreed to. The record of it stays.
    ///
    /// # Errors
    /// When the disk fails; then nothing has changed.
    pub fn withdraw_consent(&self, unix_ms: u64) -> Result<(), StoreError> {
        let transaction = self.connection.unchecked_transaction()?;
        for role in Role::BOTH {
            self.withdraw_role(role, unix_ms)?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn withdraw_role(&self, role: Role, unix_ms: u64) -> Result<(), StoreError> {
        let sql = "UPDATE consents SET withdrawn_ms = ?2 WHERE role = ?1 AND withdrawn_ms IS NULL";
        self.connection.execute(sql, params![role_name(role), to_sql(unix_ms)])?;
        Ok(())
    }

    /// The caps set by command.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn caps(&self) -> Result<StoredCaps, StoreError> {
        let sql = "SELECT devices, calls, bits_per_second, directory_bytes_per_month, relay_bytes_per_month,
                   from_min, until_min FROM volunteer_caps";
        let number = |row: &Row<'_>, at| row.get::<_, Option<i64>>(at).map(|value| value.map(from_sql));
        let caps = self.connection.query_row(sql, [], |row| {
            let hours: (Option<u16>, Option<u16>) = (row.get(5)?, row.get(6)?);
            Ok(StoredCaps {
                devices: row.get(0)?,
                calls: row.get(1)?,
                bits_per_second: number(row, 2)?,
                directory_bytes_per_month: number(row, 3)?,
                relay_bytes_per_month: number(row, 4)?,
                hours: hours.0.zip(hours.1),
            })
        });
        Ok(caps.optional()?.unwrap_or_default())
    }

    /// Keeps the caps, in place of those before.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set_caps(&self, caps: &StoredCaps) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO volunteer_caps VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let values = params![
            caps.devices,
            caps.calls,
            caps.bits_per_second.map(to_sql),
            caps.directory_bytes_per_month.map(to_sql),
            caps.relay_bytes_per_month.map(to_sql),
            caps.hours.map(|(from, _)| from),
            caps.hours.map(|(_, until)| until),
        ];
        self.connection.execute(sql, values)?;
        Ok(())
    }

    /// The port that a volunteer without a setting `listen` was given once: others know it, so it stays. The relay's
    /// is the one above.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn listening_port(&self) -> Result<Option<u16>, StoreError> {
        Ok(self.setting(LISTENING_PORT)?.and_then(|text| text.parse().ok()))
    }

    /// Keeps that port.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn keep_listening_port(&self, port: u16) -> Result<(), StoreError> {
        self.set_setting(LISTENING_PORT, &port.to_string())
    }

    /// Adds to the ledger what was served since the last time.
    ///
    /// # Errors
    /// When the disk fails; then nothing was added.
    pub fn add_to_ledger(&self, rows: &[LedgerRow]) -> Result<(), StoreError> {
        let sql = "INSERT INTO ledger VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                   ON CONFLICT (day, role) DO UPDATE SET
                   bytes = bytes + excluded.bytes, devices = max(devices, excluded.devices),
                   calls = calls + excluded.calls, circuits = circuits + excluded.circuits,
                   lookups = lookups + excluded.lookups, checks = checks + excluded.checks,
                   served_ms = served_ms + excluded.served_ms";
        let transaction = self.connection.unchecked_transaction()?;
        for LedgerRow { day, role, amounts } in rows {
            let values = params![
                to_sql(*day),
                role_name(*role),
                to_sql(amounts.bytes),
                to_sql(amounts.devices),
                to_sql(amounts.calls),
                to_sql(amounts.circuits),
                to_sql(amounts.lookups),
                to_sql(amounts.checks),
                to_sql(amounts.served_ms),
            ];
            self.connection.prepare_cached(sql)?.execute(values)?;
        }
        self.prune_ledger()?;
        transaction.commit()?;
        Ok(())
    }

    /// The ledger from that day on (days since 1970-01-01 UTC), newest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn ledger_since(&self, day: u64) -> Result<Vec<LedgerRow>, StoreError> {
        let sql = "SELECT day, role, bytes, devices, calls, circuits, lookups, checks, served_ms FROM ledger
                   WHERE day >= ?1 ORDER BY day DESC, role";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([to_sql(day)], |row| {
            let number = |at| row.get(at).map(from_sql);
            let amounts = Amounts {
                bytes: number(2)?,
                devices: number(3)?,
                calls: number(4)?,
                circuits: number(5)?,
                lookups: number(6)?,
                checks: number(7)?,
                served_ms: number(8)?,
            };
            Ok(LedgerRow { day: number(0)?, role: role(row, 1)?, amounts })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn prune_ledger(&self) -> Result<(), StoreError> {
        let sql = "DELETE FROM ledger WHERE day NOT IN
                   (SELECT DISTINCT day FROM ledger ORDER BY day DESC LIMIT ?1)";
        self.connection.prepare_cached(sql)?.execute([to_sql(LEDGER_DAYS_MAX)])?;
        Ok(())
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Directory => "directory",
        Role::Relay => "relay",
    }
}

fn role(row: &Row<'_>, at: usize) -> rusqlite::Result<Role> {
    let name: String = row.get(at)?;
    let named = Role::BOTH.into_iter().find(|role| role_name(*role) == name);
    named.ok_or_else(|| rusqlite::Error::IntegralValueOutOfRange(at, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Role; 2] = Role::BOTH;

    fn open(store: &Store) -> Vec<(Role, u32)> {
        let consents = store.consents().unwrap();
        let given = consents.iter().filter(|consent| consent.withdrawn_unix_ms.is_none());
        given.map(|consent| (consent.role, consent.terms)).collect()
    }

    #[test]
    fn what_was_withdrawn_keeps_both_moments() {
        let store = Store::in_memory().unwrap();
        assert_eq!(store.consents().unwrap(), []);
        store.give_consent(&BOTH, 1, 1_000).unwrap();
        store.give_consent(&BOTH, 1, 2_000).unwrap();
        assert_eq!(open(&store), [(Role::Directory, 1), (Role::Relay, 1)], "agreeing twice is agreeing once");
        store.give_consent(&[Role::Relay], 2, 3_000).unwrap();
        assert_eq!(open(&store), [(Role::Relay, 1), (Role::Relay, 2)], "a role not named is taken back");
        store.withdraw_consent(4_000).unwrap();
        assert_eq!(open(&store), []);
        let record: Vec<_> = store
            .consents()
            .unwrap()
            .into_iter()
            .map(|consent| (consent.role, consent.terms, consent.given_unix_ms, consent.withdrawn_unix_ms))
            .collect();
        let expected = [
            (Role::Directory, 1, 1_000, Some(3_000)),
            (Role::Relay, 1, 1_000, Some(4_000)),
            (Role::Relay, 2, 3_000, Some(4_000)),
        ];
        assert_eq!(record, expected);
        store.withdraw_consent(9_000).unwrap();
        assert_eq!(store.consents().unwrap()[0].withdrawn_unix_ms, Some(3_000), "the first moment counts");
    }

    #[test]
    fn the_record_of_consent_is_bounded_and_what_holds_is_never_dropped() {
        let store = Store::in_memory().unwrap();
        store.give_consent(&[Role::Directory], 1, 1).unwrap();
        for n in 0..CONSENTS_MAX {
            store.give_consent(&BOTH, 1, 10 + n).unwrap();
            store.give_consent(&[Role::Directory], 1, 10 + n).unwrap();
        }
        assert!(store.consents().unwrap().len() as u64 <= CONSENTS_MAX + 1);
        assert_eq!(open(&store), [(Role::Directory, 1)]);
        assert_eq!(store.consents().unwrap()[0].given_unix_ms, 1);
    }

    #[test]
    fn caps_and_the_port_are_kept() {
        let store = Store::in_memory().unwrap();
        assert_eq!(store.caps().unwrap(), StoredCaps::default());
        let caps = StoredCaps { calls: Some(4), hours: Some((1_080, 60)), ..StoredCaps::default() };
        store.set_caps(&caps).unwrap();
        assert_eq!(store.caps().unwrap(), caps);
        let more = StoredCaps { relay_bytes_per_month: Some(1 << 50), hours: None, ..caps };
        store.set_caps(&more).unwrap();
        assert_eq!(store.caps().unwrap(), more);

        assert_eq!(store.listening_port().unwrap(), None);
        store.keep_listening_port(40_002).unwrap();
        assert_eq!(store.listening_port().unwrap(), Some(40_002));
    }

    #[test]
    fn the_ledger_adds_up_and_forgets_the_oldest_days() {
        let store = Store::in_memory().unwrap();
        let row = |day, role, bytes, devices| LedgerRow {
            day,
            role,
            amounts: Amounts { bytes, devices, calls: 1, served_ms: 60_000, ..Amounts::default() },
        };
        store.add_to_ledger(&[row(100, Role::Relay, 10, 3), row(100, Role::Directory, 7, 9)]).unwrap();
        store.add_to_ledger(&[row(100, Role::Relay, 5, 2)]).unwrap();
        let day = store.ledger_since(100).unwrap();
        assert_eq!(day.len(), 2);
        let relay = day.iter().find(|row| row.role == Role::Relay).unwrap().amounts;
        assert_eq!((relay.bytes, relay.devices, relay.calls, relay.served_ms), (15, 3, 2, 120_000));

        for day in 101..=100 + LEDGER_DAYS_MAX {
            store.add_to_ledger(&[row(day, Role::Relay, 1, 1)]).unwrap();
        }
        let all = store.ledger_since(0).unwrap();
        assert_eq!(all.len() as u64, LEDGER_DAYS_MAX);
        assert_eq!((all[0].day, all[all.len() - 1].day), (100 + LEDGER_DAYS_MAX, 101));
        assert_eq!(store.ledger_since(100 + LEDGER_DAYS_MAX).unwrap().len(), 1);
    }
}
