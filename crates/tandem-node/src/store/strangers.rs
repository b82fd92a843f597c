use rusqlite::{OptionalExtension, Row, params};
use tandem_api::{Block, ContactRequest, InvitationView, Problem};
use tandem_core::call::{DECLINED_MAX, INVITATIONS_MAX, Invitation, InvitationId, KeptRequest, NewRequest};
use tandem_proto::identity::{Address, InvitationHash};
use tandem_proto::ids::AccountKey;
use thiserror::Error;

use super::{Store, StoreError, from_sql, key, to_sql};
use crate::messages::Code;

/// Blocks are never dropped to make room: one more is refused.
pub const BLOCKS_MAX: u64 = 10_000;
/// A request that nobody decides on, and a declined one, is dropped after this.
const REQUEST_KEPT_MS: u64 = 30 * 86_400_000;
const LABEL_CHARS_MAX: usize = 64;

/// Why something about strangers could not be done.
#[derive(Debug, Error)]
pub enum StrangerError {
    #[error("there is no invitation {id}")]
    NoInvitation { id: u64 },
    #[error("there is no request \"{who}\"")]
    NoRequest { who: String },
    #[error("there are too many invitations")]
    InvitationsFull,
    #[error("there are too many blocked accounts")]
    BlocksFull,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for StrangerError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl StrangerError {
    /// For a person.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::NoInvitation { id } => Code::NoSuchInvitation.with(&[("id", &id.to_string())]),
            Self::NoRequest { who } => Code::NoSuchRequest.with(&[("who", who)]),
            Self::InvitationsFull => Code::InvitationsFull.with(&[("limit", &INVITATIONS_MAX.to_string())]),
            Self::BlocksFull => Code::BlocksFull.with(&[("limit", &BLOCKS_MAX.to_string())]),
            Self::Store(error) => error.problem(),
        }
    }
}

/// Who is blocked, invited and waiting.
#[derive(Debug)]
pub(crate) struct KnownStrangers {
    pub(crate) blocked: Vec<AccountKey>,
    pub(crate) invitations: Vec<Invitation>,
    pub(crate) requests: Vec<KeptRequest>,
}

impl Store {
    /// All that the call machine must know of people who are no contacts.
    ///
    /// # Errors
    /// When the disk fails; then nothing is known, and what was known before must stay in force.
    pub(crate) fn strangers(&self) -> Result<KnownStrangers, StoreError> {
        Ok(KnownStrangers {
            blocked: self.blocked_accounts()?,
            invitations: self.live_invitations()?,
            requests: self.kept_requests()?,
        })
    }

    // ---- invitations --------------------------------------------------------------------------------------------

    /// Keeps a new invitation; what has ended makes room.
    ///
    /// # Errors
    /// `InvitationsFull`, or when the disk fails.
    pub fn add_invitation(
        &self,
        hash: InvitationHash,
        label: &str,
        not_after_ms: u64,
        uses: u32,
        unix_ms: u64,
    ) -> Result<InvitationView, StrangerError> {
        self.connection.execute(
            "DELETE FROM invitation_uses WHERE invitation IN (SELECT id FROM invitations WHERE not_after_ms <= ?1)",
            [to_sql(unix_ms)],
        )?;
        self.connection.execute("DELETE FROM invitations WHERE not_after_ms <= ?1", [to_sql(unix_ms)])?;
        if self.count("SELECT count(*) FROM invitations")? >= INVITATIONS_MAX as u64 {
            return Err(StrangerError::InvitationsFull);
        }
        let label: String = label.chars().filter(|c| !c.is_control()).take(LABEL_CHARS_MAX).collect();
        let sql =
            "INSERT INTO invitations (hash, label, made_ms, not_after_ms, uses) VALUES (?1, ?2, ?3, ?4, ?5)";
        let values = params![&hash.0[..], label, to_sql(unix_ms), to_sql(not_after_ms), uses];
        self.connection.execute(sql, values)?;
        let id = from_sql(self.connection.last_insert_rowid());
        Ok(InvitationView {
            id,
            label,
            made_unix_ms: unix_ms,
            not_after_unix_ms: not_after_ms,
            uses,
            used_by: Vec::new(),
        })
    }

    /// All invitations, newest first, with those who used them.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn invitations(&self) -> Result<Vec<InvitationView>, StoreError> {
        let sql = "SELECT id, label, made_ms, not_after_ms, uses FROM invitations ORDER BY id DESC";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(InvitationView {
                id: from_sql(row.get(0)?),
                label: row.get(1)?,
                made_unix_ms: from_sql(row.get(2)?),
                not_after_unix_ms: from_sql(row.get(3)?),
                uses: row.get(4)?,
                used_by: Vec::new(),
            })
        })?;
        let mut invitations: Vec<InvitationView> = rows.collect::<Result<_, _>>()?;
        for invitation in &mut invitations {
            let users = self.invitation_users(invitation.id)?;
            invitation.used_by = users.into_iter().map(|account| Address(account).to_string()).collect();
        }
        Ok(invitations)
    }

    /// As the call machine needs them.
    ///
    /// # Errors
    /// When the disk fails.
    fn live_invitations(&self) -> Result<Vec<Invitation>, StoreError> {
        let sql = "SELECT id, hash, not_after_ms, uses FROM invitations ORDER BY id DESC";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            let hash: Vec<u8> = row.get(1)?;
            Ok(Invitation {
                id: InvitationId(from_sql(row.get(0)?)),
                hash: InvitationHash(key(&hash)?),
                not_after_unix_ms: from_sql(row.get(2)?),
                uses: row.get(3)?,
                accounts: Vec::new(),
            })
        })?;
        let mut invitations: Vec<Invitation> = rows.collect::<Result<_, _>>()?;
        for invitation in &mut invitations {
            invitation.accounts = self.invitation_users(invitation.id.0)?;
        }
        Ok(invitations)
    }

    fn invitation_users(&self, id: u64) -> Result<Vec<AccountKey>, StoreError> {
        let sql = "SELECT account FROM invitation_uses WHERE invitation = ?1 ORDER BY used_ms";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([to_sql(id)], |row| account(row, 0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes that an account was let in by an invitation.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn use_invitation(&self, id: u64, account: AccountKey, unix_ms: u64) -> Result<(), StoreError> {
        let sql = "INSERT OR IGNORE INTO invitation_uses SELECT id, ?2, ?3 FROM invitations WHERE id = ?1";
        self.connection.execute(sql, params![to_sql(id), &account.0[..], to_sql(unix_ms)])?;
        Ok(())
    }

    /// Ends an invitation.
    ///
    /// # Errors
    /// `NoInvitation`, or when the disk fails.
    pub fn remove_invitation(&self, id: u64) -> Result<(), StrangerError> {
        self.connection.execute("DELETE FROM invitation_uses WHERE invitation = ?1", [to_sql(id)])?;
        let removed = self.connection.execute("DELETE FROM invitations WHERE id = ?1", [to_sql(id)])?;
        if removed == 0 { Err(StrangerError::NoInvitation { id }) } else { Ok(()) }
    }

    // ---- silent requests ----------------------------------------------------------------------------------------

    /// Keeps a request that came in.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn add_request(&self, new: &NewRequest) -> Result<(), StoreError> {
        if let Some(replaced) = new.replaces {
            self.connection
                .execute("DELETE FROM requests WHERE account = ?1 AND NOT declined", [&replaced.0[..]])?;
        }
        let sql = "INSERT OR REPLACE INTO requests (account, name, message, bits, at_ms, declined) VALUES (?1, ?2, ?3, ?4, ?5, 0)";
        let kept = &new.kept;
        let values = params![&kept.account.0[..], new.name, new.message, kept.bits, to_sql(kept.at_unix_ms)];
        self.connection.execute(sql, values)?;
        Ok(())
    }

    /// The requests that wait for a decision, newest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn requests(&self) -> Result<Vec<ContactRequest>, StoreError> {
        let sql = "SELECT account, name, message, at_ms FROM requests WHERE NOT declined ORDER BY at_ms DESC";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            let account = account(row, 0)?;
            Ok(ContactRequest {
                id: request_id(account),
                address: Address(account).to_string(),
                claimed_name: row.get(1)?,
                message: row.get(2)?,
                at_unix_ms: from_sql(row.get(3)?),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many wait.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn requests_waiting(&self) -> Result<u64, StoreError> {
        self.count("SELECT count(*) FROM requests WHERE NOT declined")
    }

    /// As the call machine needs them; declined ones too.
    ///
    /// # Errors
    /// When the disk fails.
    fn kept_requests(&self) -> Result<Vec<KeptRequest>, StoreError> {
        let sql = "SELECT account, bits, at_ms, declined FROM requests ORDER BY declined, at_ms DESC";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(KeptRequest {
                account: account(row, 0)?,
                bits: row.get(1)?,
                at_unix_ms: from_sql(row.get(2)?),
                declined: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The request that an id, its beginning or an address means.
    ///
    /// # Errors
    /// `NoRequest`, also when several could be meant.
    pub fn find_request(&self, who: &str) -> Result<ContactRequest, StrangerError> {
        let who = who.trim().to_ascii_lowercase();
        let fits = |request: &ContactRequest| {
            request.address == who || (!who.is_empty() && request.id.starts_with(&who))
        };
        let mut fitting = self.requests()?.into_iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(request), None) => Ok(request),
            _ => Err(StrangerError::NoRequest { who }),
        }
    }

    /// The person said no: another request of this account is passed over for 30 days.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn decline_request(&self, account: AccountKey, unix_ms: u64) -> Result<(), StoreError> {
        let sql = "UPDATE requests SET declined = 1, name = '', message = '', at_ms = ?2 WHERE account = ?1";
        self.connection.execute(sql, params![&account.0[..], to_sql(unix_ms)])?;
        self.prune_requests(unix_ms)
    }

    /// A request is done with.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove_request(&self, account: AccountKey) -> Result<(), StoreError> {
        self.connection.execute("DELETE FROM requests WHERE account = ?1", [&account.0[..]])?;
        Ok(())
    }

    /// Drops all that wait; says how many.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn clear_requests(&self) -> Result<u64, StoreError> {
        Ok(self.connection.execute("DELETE FROM requests WHERE NOT declined", [])? as u64)
    }

    pub(super) fn prune_requests(&self, unix_ms: u64) -> Result<(), StoreError> {
        let oldest = to_sql(unix_ms.saturating_sub(REQUEST_KEPT_MS));
        self.connection.execute("DELETE FROM requests WHERE at_ms < ?1", [oldest])?;
        let sql = "DELETE FROM requests WHERE declined AND account NOT IN \
                   (SELECT account FROM requests WHERE declined ORDER BY at_ms DESC LIMIT ?1)";
        self.connection.execute(sql, [to_sql(DECLINED_MAX as u64)])?;
        Ok(())
    }

    // ---- blocking -----------------------------------------------------------------------------------------------

    /// Blocks an account, contact or not; gives the time since when it is. Blocking again changes nothing, also when
    /// there is no room for others.
    ///
    /// # Errors
    /// `BlocksFull`, or when the disk fails.
    pub fn block(&self, account: AccountKey, unix_ms: u64) -> Result<u64, StrangerError> {
        let since_ms = match self.blocked_since(account)? {
            Some(since_ms) => since_ms,
            None if self.count("SELECT count(*) FROM blocks")? >= BLOCKS_MAX => {
                return Err(StrangerError::BlocksFull);
            }
            None => {
                let sql = "INSERT INTO blocks VALUES (?1, ?2)";
                self.connection.execute(sql, params![&account.0[..], to_sql(unix_ms)])?;
                unix_ms
            }
        };
        self.remove_request(account)?;
        Ok(since_ms)
    }

    /// Lets an account be as others; false when it was not blocked.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn unblock(&self, account: AccountKey) -> Result<bool, StoreError> {
        Ok(self.connection.execute("DELETE FROM blocks WHERE account = ?1", [&account.0[..]])? > 0)
    }

    /// All blocked accounts, the newest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn blocks(&self) -> Result<Vec<Block>, StoreError> {
        let sql = "SELECT blocks.account, since_ms, contacts.name FROM blocks \
                   LEFT JOIN contacts ON contacts.account = blocks.account ORDER BY since_ms DESC";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(Block {
                address: Address(account(row, 0)?).to_string(),
                since_unix_ms: from_sql(row.get(1)?),
                contact: row.get(2)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The blocked accounts.
    ///
    /// # Errors
    /// When the disk fails.
    fn blocked_accounts(&self) -> Result<Vec<AccountKey>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT account FROM blocks")?;
        let rows = statement.query_map([], |row| account(row, 0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn is_blocked(&self, account: AccountKey) -> Result<bool, StoreError> {
        Ok(self.blocked_since(account)?.is_some())
    }

    /// Milliseconds since 1970-01-01 UTC; `None` for an account that is not blocked.
    fn blocked_since(&self, account: AccountKey) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT since_ms FROM blocks WHERE account = ?1";
        let found = self.connection.query_row(sql, [&account.0[..]], |row| row.get(0)).optional()?;
        Ok(found.map(from_sql))
    }

    fn count(&self, sql: &str) -> Result<u64, StoreError> {
        Ok(from_sql(self.connection.query_row(sql, [], |row| row.get(0))?))
    }
}

/// The name of a request for people: the beginning of the account's key.
fn request_id(account: AccountKey) -> String {
    account.0[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn account(row: &Row<'_>, column: usize) -> rusqlite::Result<AccountKey> {
    let bytes: Vec<u8> = row.get(column)?;
    Ok(AccountKey(key(&bytes)?))
}
