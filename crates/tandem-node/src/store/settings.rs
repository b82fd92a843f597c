use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError};

impl Store {
    /// A small value the program keeps for itself.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn setting(&self, key: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT value FROM settings WHERE key = ?1";
        Ok(self.connection.query_row(sql, [key], |row| row.get(0)).optional()?)
    }

    /// Keeps a small value.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set_setting(&self, key: &'static str, value: &str) -> Result<(), StoreError> {
        self.connection.execute("INSERT OR REPLACE INTO settings VALUES (?1, ?2)", params![key, value])?;
        Ok(())
    }
}
