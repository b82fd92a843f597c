use rusqlite::{OptionalExtension, Row, params};
use tandem_api::{Contact, ContactChange, NewContact, Problem};
use tandem_proto::identity::{Address, InvitationSecret, Link, LinkError};
use tandem_proto::ids::AccountKey;
use thiserror::Error;

use super::{CONTACTS_MAX, Store, StoreError, StrangerError, from_sql, key, to_sql};
use crate::messages::Code;

const NAME_CHARS_MAX: usize = 64;
const NOTE_CHARS_MAX: usize = 1_000;
const COLUMNS: &str = "account, name, note, EXISTS (SELECT 1 FROM blocks WHERE blocks.account = contacts.account), \
                       added_ms, relay_only, invitation IS NOT NULL";

/// Why a contact could not be added, changed or found.
#[derive(Debug, Error)]
pub enum ContactError {
    #[error("\"{address}\" is no address: {error}")]
    Address { address: String, error: LinkError },
    #[error("the name \"{name}\" cannot be used: {detail}")]
    Name { name: String, detail: &'static str },
    #[error("there is \"{name}\" already")]
    Exists { name: String },
    #[error("there is no contact \"{who}\"")]
    Unknown { who: String },
    #[error("there are too many contacts")]
    Full,
    #[error(transparent)]
    Stranger(#[from] StrangerError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for ContactError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl ContactError {
    /// For a person.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Address { address, error: LinkError::Invitation } => {
                let detail = "32 letters and digits 2 to 7 follow \"?i=\", and nothing else";
                Code::LinkWrong.with(&[("address", address), ("detail", detail)])
            }
            Self::Address { address, error } => {
                Code::AddressWrong.with(&[("address", address), ("detail", &error.to_string())])
            }
            Self::Name { name, detail } => Code::ContactName.with(&[("name", name), ("detail", detail)]),
            Self::Exists { name } => Code::ContactExists.with(&[("name", name)]),
            Self::Unknown { who } => Code::NoSuchContact.with(&[("who", who)]),
            Self::Full => Code::ContactsFull.with(&[("limit", &CONTACTS_MAX.to_string())]),
            Self::Stranger(error) => error.problem(),
            Self::Store(error) => error.problem(),
        }
    }
}

impl Store {
    /// All contacts, by name.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn contacts(&self) -> Result<Vec<Contact>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM contacts ORDER BY name COLLATE NOCASE");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([], contact)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The contact with this account.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn contact(&self, account: AccountKey) -> Result<Option<Contact>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM contacts WHERE account = ?1");
        Ok(self.connection.query_row(&sql, [&account.0[..]], contact).optional()?)
    }

    /// Whom an address or a contact's name means.
    ///
    /// # Errors
    /// `Address` for a text that looks like an address and is none, `Unknown` for a name nobody has.
    pub fn resolve(&self, who: &str) -> Result<AccountKey, ContactError> {
        let who = who.trim();
        let address_like = who.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("tandem:"));
        if address_like {
            return parse_link(who).map(|link| link.address.0);
        }
        let found: Option<Vec<u8>> = self
            .connection
            .query_row("SELECT account FROM contacts WHERE name = ?1", [who], |row| row.get(0))
            .optional()?;
        let bytes = found.ok_or_else(|| ContactError::Unknown { who: who.to_owned() })?;
        Ok(AccountKey(key(&bytes)?))
    }

    /// Whom an address, a link with an invitation or a contact's name means, and the invitation to call them with.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_link(&self, who: &str) -> Result<(AccountKey, Option<InvitationSecret>), ContactError> {
        let link = who.trim().split_once('?').map(|_| parse_link(who)).transpose()?;
        if let Some(Link { address, invitation }) = link {
            return Ok((address.0, invitation));
        }
        let account = self.resolve(who)?;
        let sql = "SELECT invitation FROM contacts WHERE account = ?1";
        let kept: Option<Option<Vec<u8>>> =
            self.connection.query_row(sql, [&account.0[..]], |row| row.get(0)).optional()?;
        let secret = kept.flatten().and_then(|bytes| bytes.try_into().ok());
        Ok((account, secret.map(InvitationSecret)))
    }

    /// Adds a contact, by address or by a link, whose invitation is kept for calls.
    ///
    /// # Errors
    /// [`ContactError`] says what is wrong with it.
    pub fn add_contact(&self, new: &NewContact, unix_ms: u64) -> Result<Contact, ContactError> {
        let Link { address, invitation } = parse_link(&new.address)?;
        let name = check_name(&new.name)?;
        let note = check_note(&new.note)?;
        let count: i64 = self.connection.query_row("SELECT count(*) FROM contacts", [], |row| row.get(0))?;
        if from_sql(count) >= CONTACTS_MAX {
            return Err(ContactError::Full);
        }
        let sql =
            "INSERT INTO contacts (account, name, note, added_ms, invitation) VALUES (?1, ?2, ?3, ?4, ?5)";
        let secret = invitation.as_ref().map(|secret| &secret.0[..]);
        self.connection
            .execute(sql, params![&address.0.0[..], name, note, to_sql(unix_ms), secret])
            .map_err(|error| unique(error, &name))?;
        let added = self.contact(address.0)?;
        added.ok_or(ContactError::Unknown { who: name })
    }

    /// Changes a contact, named by address or name; what is absent stays.
    ///
    /// # Errors
    /// [`ContactError`] says why not.
    pub fn change_contact(
        &self,
        who: &str,
        change: &ContactChange,
        unix_ms: u64,
    ) -> Result<Contact, ContactError> {
        let unknown = || ContactError::Unknown { who: who.to_owned() };
        let account = self.resolve(who)?;
        let mut contact = self.contact(account)?.ok_or_else(unknown)?;
        if let Some(name) = &change.name {
            contact.name = check_name(name)?;
        }
        if let Some(note) = &change.note {
            contact.note = check_note(note)?;
        }
        contact.relay_only = change.relay_only.unwrap_or(contact.relay_only);
        match change.blocked {
            Some(true) => {
                self.block(account, unix_ms)?;
            }
            Some(false) => drop(self.unblock(account)?),
            None => {}
        }
        contact.blocked = self.is_blocked(account)?;
        let sql = "UPDATE contacts SET name = ?2, note = ?3, relay_only = ?4 WHERE account = ?1";
        self.connection
            .execute(sql, params![&account.0[..], contact.name, contact.note, contact.relay_only])
            .map_err(|error| unique(error, &contact.name))?;
        Ok(contact)
    }

    /// Removes a contact, named by address or name. Returns its account.
    ///
    /// # Errors
    /// `Unknown`, or when the disk fails.
    pub fn remove_contact(&self, who: &str) -> Result<AccountKey, ContactError> {
        let account = self.resolve(who)?;
        let removed = self.connection.execute("DELETE FROM contacts WHERE account = ?1", [&account.0[..]])?;
        if removed == 0 { Err(ContactError::Unknown { who: who.to_owned() }) } else { Ok(account) }
    }

    /// Remembers a contact's verified reach record (encoded); for anybody else, nothing.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remember_homes(&self, account: AccountKey, record: &[u8]) -> Result<(), StoreError> {
        let sql = "UPDATE contacts SET homes = ?2 WHERE account = ?1";
        self.connection.execute(sql, params![&account.0[..], record])?;
        Ok(())
    }

    /// The reach record last remembered for a contact.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remembered_homes(&self, account: AccountKey) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT homes FROM contacts WHERE account = ?1";
        let row = self.connection.query_row(sql, [&account.0[..]], |row| row.get(0)).optional()?;
        Ok(row.flatten())
    }
}

fn contact(row: &Row<'_>) -> rusqlite::Result<Contact> {
    let account: Vec<u8> = row.get(0)?;
    Ok(Contact {
        address: Address(AccountKey(key(&account)?)).to_string(),
        name: row.get(1)?,
        note: row.get(2)?,
        blocked: row.get(3)?,
        added_unix_ms: from_sql(row.get(4)?),
        relay_only: row.get(5)?,
        invited: row.get(6)?,
    })
}

/// An address or a link. Only the address is told in an error, never a secret.
fn parse_link(text: &str) -> Result<Link, ContactError> {
    let address = || text.trim().split('?').next().unwrap_or_default().to_owned();
    text.parse().map_err(|error| ContactError::Address { address: address(), error })
}

fn check_name(name: &str) -> Result<String, ContactError> {
    let wrong = |detail| ContactError::Name { name: name.chars().take(NAME_CHARS_MAX).collect(), detail };
    let trimmed = name.trim();
    if trimmed.is_empty() {
        return Err(wrong("it is empty"));
    }
    if trimmed.chars().count() > NAME_CHARS_MAX {
        return Err(wrong("it is too long"));
    }
    if trimmed.chars().any(char::is_control) {
        return Err(wrong("it holds control characters"));
    }
    if trimmed.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("tandem:")) {
        return Err(wrong("it looks like an address"));
    }
    Ok(trimmed.to_owned())
}

fn check_note(note: &str) -> Result<String, ContactError> {
    if note.chars().count() > NOTE_CHARS_MAX {
        return Err(ContactError::Name {
            name: "note".to_owned(),
            detail: "the note is longer than 1,000 characters",
        });
    }
    Ok(note.to_owned())
}

fn unique(error: rusqlite::Error, name: &str) -> ContactError {
    if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) {
        return ContactError::Exists { name: name.to_owned() };
    }
    error.into()
}
