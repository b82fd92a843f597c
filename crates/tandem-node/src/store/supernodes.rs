use prost::Message;
use rusqlite::{OptionalExtension, Row, params};
use tandem_proto::ids::ServiceKey;
use tandem_proto::wire::Signed;

use super::{SUPERNODES_MAX, Store, StoreError, from_sql, key, to_sql};

const SCORE_MAX: i64 = 1_000;

/// A supernode this node has met, or was told of.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSupernode {
    pub service: ServiceKey,
    /// As received; verify it again before use, since it may have expired.
    pub descriptor: Signed,
    /// See `tandem_proto::network::network_group`.
    pub network: u32,
    pub last_ok_unix_ms: Option<u64>,
    pub last_fail_unix_ms: Option<u64>,
    /// Higher is better.
    pub score: i64,
}

impl Store {
    /// Remembers a verified descriptor; what is known of the supernode's reliability stays.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remember_supernode(
        &self,
        service: ServiceKey,
        descriptor: &Signed,
        network: u32,
        unix_ms: u64,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO supernodes (service, descriptor, network, heard_ms, score) VALUES (?1, ?2, ?3, ?4, 0)
                   ON CONFLICT (service) DO UPDATE SET descriptor = ?2, network = ?3, heard_ms = ?4";
        let values = params![&service.0[..], descriptor.encode_to_vec(), network, to_sql(unix_ms)];
        self.connection.prepare_cached(sql)?.execute(values)?;
        self.prune_supernodes()
    }

    /// It answered: its score rises by one.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn supernode_worked(&self, service: ServiceKey, unix_ms: u64) -> Result<(), StoreError> {
        let sql = "UPDATE supernodes SET last_ok_ms = ?2, score = min(score + 1, ?3) WHERE service = ?1";
        self.connection.execute(sql, params![&service.0[..], to_sql(unix_ms), SCORE_MAX])?;
        Ok(())
    }

    /// It did not: its score falls by half, and below nothing by one.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn supernode_failed(&self, service: ServiceKey, unix_ms: u64) -> Result<(), StoreError> {
        let sql = "UPDATE supernodes SET last_fail_ms = ?2,
                   score = CASE WHEN score > 0 THEN score / 2 ELSE max(score - 1, -?3) END WHERE service = ?1";
        self.connection.execute(sql, params![&service.0[..], to_sql(unix_ms), SCORE_MAX])?;
        Ok(())
    }

    /// The best ones first, then those last heard of.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn supernodes(&self, limit: u32) -> Result<Vec<StoredSupernode>, StoreError> {
        let sql = "SELECT service, descriptor, network, last_ok_ms, last_fail_ms, score FROM supernodes
                   ORDER BY score DESC, heard_ms DESC, service LIMIT ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([limit], supernode)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many are remembered.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn supernodes_known(&self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM supernodes";
        Ok(from_sql(self.connection.query_row(sql, [], |row| row.get(0)).optional()?.unwrap_or(0)))
    }

    pub(super) fn prune_supernodes(&self) -> Result<(), StoreError> {
        let sql = "DELETE FROM supernodes WHERE service IN
                   (SELECT service FROM supernodes ORDER BY score DESC, heard_ms DESC, service LIMIT -1 OFFSET ?1)";
        self.connection.prepare_cached(sql)?.execute([to_sql(SUPERNODES_MAX)])?;
        Ok(())
    }
}

fn supernode(row: &Row<'_>) -> rusqlite::Result<StoredSupernode> {
    let service: Vec<u8> = row.get(0)?;
    let descriptor: Vec<u8> = row.get(1)?;
    let descriptor = Signed::decode(descriptor.as_slice()).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Blob, error.into())
    })?;
    Ok(StoredSupernode {
        service: ServiceKey(key(&service)?),
        descriptor,
        network: row.get(2)?,
        last_ok_unix_ms: row.get::<_, Option<i64>>(3)?.map(from_sql),
        last_fail_unix_ms: row.get::<_, Option<i64>>(4)?.map(from_sql),
        score: row.get(5)?,
    })
}
