use rusqlite::{Row, params};
use tandem_proto::ids::ServiceKey;

use super::{QUALITIES_MAX, Store, StoreError, from_sql, key, to_sql};

/// What this device measured of a supernode that was its home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SupernodeQuality {
    pub service: ServiceKey,
    /// 0 to 255; 128 when there is nothing to say.
    pub quality: u8,
    /// 0 to 4 (`tandem_core::homes::CLASS_BOUNDS_MS`).
    pub latency_class: Option<u8>,
    /// How often it was a home.
    pub times: u32,
    /// How long in all.
    pub held_ms: u64,
    /// How often it was lost as one.
    pub lost: u32,
    /// Attempts in a row that came to nothing, since it last was one.
    pub failed: u32,
    /// Look-ups in which it left out, or was behind with, what others knew.
    pub omitted: u32,
    /// Answers that did not verify.
    pub lied: u32,
    pub lied_unix_ms: Option<u64>,
    pub measured_unix_ms: u64,
}

impl Store {
    /// Keeps these in place of what was kept of the same supernodes. Those measured longest ago make room.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remember_qualities(&self, measured: &[SupernodeQuality]) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO supernode_quality
                   (service, quality, latency, times, held_ms, lost, failed, omitted, lied, lied_ms, measured_ms)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        let transaction = self.connection.unchecked_transaction()?;
        let mut statement = transaction.prepare_cached(sql)?;
        for one in measured {
            statement.execute(params![
                &one.service.0[..],
                one.quality,
                one.latency_class,
                one.times,
                to_sql(one.held_ms),
                one.lost,
                one.failed,
                one.omitted,
                one.lied,
                one.lied_unix_ms.map(to_sql),
                to_sql(one.measured_unix_ms),
            ])?;
        }
        drop(statement);
        let prune = "DELETE FROM supernode_quality WHERE service IN (SELECT service FROM supernode_quality
                     ORDER BY measured_ms DESC, service LIMIT -1 OFFSET ?1)";
        transaction.execute(prune, [to_sql(QUALITIES_MAX)])?;
        transaction.commit()?;
        Ok(())
    }

    /// All that was measured since, those that served best first. What is older is forgotten.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn qualities(&self, since_unix_ms: u64) -> Result<Vec<SupernodeQuality>, StoreError> {
        let old = "DELETE FROM supernode_quality WHERE measured_ms < ?1";
        self.connection.execute(old, [to_sql(since_unix_ms)])?;
        let sql =
            "SELECT service, quality, latency, times, held_ms, lost, failed, omitted, lied, lied_ms, measured_ms
                   FROM supernode_quality ORDER BY quality DESC, measured_ms DESC, service";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], quality)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn quality(row: &Row<'_>) -> rusqlite::Result<SupernodeQuality> {
    let service: Vec<u8> = row.get(0)?;
    Ok(SupernodeQuality {
        service: ServiceKey(key(&service)?),
        quality: row.get(1)?,
        latency_class: row.get(2)?,
        times: row.get(3)?,
        held_ms: from_sql(row.get(4)?),
        lost: row.get(5)?,
        failed: row.get(6)?,
        omitted: row.get(7)?,
        lied: row.get(8)?,
        lied_unix_ms: row.get::<_, Option<i64>>(9)?.map(from_sql),
        measured_unix_ms: from_sql(row.get(10)?),
    })
}
