use rusqlite::{Row, params};
use tandem_api::{CallDirection, CallResult, EndReason, PathChange};
use tandem_proto::ids::AccountKey;

use super::{CALLS_MAX, Store, StoreError, from_sql, key, to_sql};

/// A call that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCall {
    /// As in the API.
    pub id: String,
    pub account: AccountKey,
    pub direction: CallDirection,
    pub started_unix_ms: u64,
    pub answered_unix_ms: Option<u64>,
    pub ended_unix_ms: u64,
    pub reason: EndReason,
    pub result: CallResult,
    pub path_changes: Vec<PathChange>,
}

impl Store {
    /// Adds a call that ended; one of the same id is replaced. The oldest make room.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn add_call(&self, call: &StoredCall) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO calls VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        self.connection.prepare_cached(sql)?.execute(params![
            call.id,
            &call.account.0[..],
            json(&call.direction)?,
            to_sql(call.started_unix_ms),
            call.answered_unix_ms.map(to_sql),
            to_sql(call.ended_unix_ms),
            json(&call.reason)?,
            json(&call.result)?,
            json(&call.path_changes)?,
        ])?;
        self.prune_calls()
    }

    /// The newest calls, newest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn calls(&self, limit: u32) -> Result<Vec<StoredCall>, StoreError> {
        let sql =
            "SELECT id, account, direction, started_ms, answered_ms, ended_ms, reason, result, path_changes
                   FROM calls ORDER BY started_ms DESC, rowid DESC LIMIT ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([limit], call)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn prune_calls(&self) -> Result<(), StoreError> {
        let sql = "DELETE FROM calls WHERE id IN
                   (SELECT id FROM calls ORDER BY started_ms DESC, rowid DESC LIMIT -1 OFFSET ?1)";
        self.connection.prepare_cached(sql)?.execute([to_sql(CALLS_MAX)])?;
        Ok(())
    }
}

fn call(row: &Row<'_>) -> rusqlite::Result<StoredCall> {
    let account: Vec<u8> = row.get(1)?;
    Ok(StoredCall {
        id: row.get(0)?,
        account: AccountKey(key(&account)?),
        direction: from_json(row, 2)?,
        started_unix_ms: from_sql(row.get(3)?),
        answered_unix_ms: row.get::<_, Option<i64>>(4)?.map(from_sql),
        ended_unix_ms: from_sql(row.get(5)?),
        reason: from_json(row, 6)?,
        result: from_json(row, 7)?,
        path_changes: from_json(row, 8)?,
    })
}

fn json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn from_json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
    })
}
