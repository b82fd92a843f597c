use prost::Message;
use rusqlite::{OptionalExtension, Row, params};
use tandem_proto::ids::ServiceKey;
use tandem_proto::wire::Signed;

use super::{SUPERNODES_MAX, Store, StoreError, from_sql, key, to_sql};

/// A supernode this node has met, or was told of.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSupernode {
    pub service: ServiceKey,
    /// As received; verify it again before use, since it may have expired.
    pub descriptor: Signed,
    /// See `tandem_proto::network::network_group`.
    pub network: u32,
}

impl Store {
    /// Remembers a verified descriptor; what was measured of it is elsewhere ([`Self::qualities`]).
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
        let sql = "INSERT INTO supernodes (service, descriptor, network, heard_ms) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (service) DO UPDATE SET descriptor = ?2, network = ?3, heard_ms = ?4";
        let values = params![&service.0[..], descriptor.encode_to_vec(), network, to_sql(unix_ms)];
        self.connection.prepare_cached(sql)?.execute(values)?;
        self.prune_supernodes()
    }

    /// Those that served this device best first, then those last heard of.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn supernodes(&self, limit: u32) -> Result<Vec<StoredSupernode>, StoreError> {
        let sql =
            "SELECT service, descriptor, network FROM supernodes LEFT JOIN supernode_quality USING (service)
                   ORDER BY coalesce(quality, 128) DESC, heard_ms DESC, service LIMIT ?1";
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
                   (SELECT service FROM supernodes LEFT JOIN supernode_quality USING (service)
                    ORDER BY coalesce(quality, 128) DESC, heard_ms DESC, service LIMIT -1 OFFSET ?1)";
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
    Ok(StoredSupernode { service: ServiceKey(key(&service)?), descriptor, network: row.get(2)? })
}
