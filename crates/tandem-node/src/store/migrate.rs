use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{StoreError, to_sql};

/// Each takes the schema from its index to the next. Never edited once released; a change is a new file.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
];

/// The schema this program writes (`PRAGMA user_version`).
pub const SCHEMA: u32 = MIGRATIONS.len() as u32;

/// Brings a store to [`SCHEMA`].
pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    run_to(connection, path, MIGRATIONS)
}

fn run_to(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), StoreError> {
    let broken = |detail: String| StoreError::Broken { path: path.to_owned(), detail };
    let found: u32 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|error| broken(error.to_string()))?;
    let known = migrations.len();
    if found as usize > known {
        return Err(StoreError::Newer { path: path.to_owned(), found });
    }
    if found as usize == known {
        return check(connection).map_err(broken);
    }
    if found > 0 {
        check(connection).map_err(broken)?;
    }
    for (index, sql) in migrations.iter().enumerate().skip(found as usize) {
        // A new file has nothing to lose.
        if found > 0 {
            back_up(connection, path, index)?;
        }
        let transaction = connection.transaction()?;
        transaction
            .execute_batch(sql)
            .map_err(|error| broken(format!("migration {}: {error}", index + 1)))?;
        transaction.pragma_update(None, "user_version", to_sql(index as u64 + 1))?;
        transaction.commit()?;
    }
    Ok(())
}

/// A whole copy of the file as it is, `….before-N`, N being the schema it is taken to. One that is there already was made
/// by an attempt that failed: it stays, since it is the older.
fn back_up(connection: &Connection, path: &Path, schema: usize) -> Result<(), StoreError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".before-{}", schema + 1));
    let copy: PathBuf = path.with_file_name(name);
    if copy.exists() {
        return Ok(());
    }
    // An empty file first, so that the copy has the mode of the original (SQLite keeps it).
    let io = |error: std::io::Error| StoreError::Broken { path: copy.clone(), detail: error.to_string() };
    crate::platform::files::write_new(&copy, &[]).map_err(io)?;
    connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
    Ok(())
}

fn check(connection: &Connection) -> Result<(), String> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| error.to_string())?;
    if verdict == "ok" { Ok(()) } else { Err(verdict) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: &str = "ALTER TABLE contacts ADD COLUMN pet TEXT;";

    #[test]
    fn a_migration_keeps_the_rows_and_leaves_a_copy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let mut connection = Connection::open(&path).unwrap();
        run(&mut connection, &path).unwrap();
        connection.execute("INSERT INTO settings VALUES ('a', 'b')", []).unwrap();
        let all = [MIGRATIONS, &[NEXT]].concat();
        run_to(&mut connection, &path, &all).unwrap();
        let kept: String = connection.query_row("SELECT value FROM settings", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, "b");
        connection.execute("UPDATE contacts SET pet = ''", []).unwrap();

        let copy = Connection::open(folder.path().join(format!("store.db.before-{}", SCHEMA + 1))).unwrap();
        let version: u32 = copy.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, SCHEMA);
        let kept: String = copy.query_row("SELECT value FROM settings", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, "b");
    }

    #[test]
    fn what_a_store_of_schema_4_knows_of_supernodes_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let mut connection = Connection::open(&path).unwrap();
        run_to(&mut connection, &path, &MIGRATIONS[..4]).unwrap();
        let insert = "INSERT INTO supernodes (service, descriptor, network, heard_ms, score)
                      VALUES (zeroblob(32), x'0a00', 7, 8, 9)";
        connection.execute(insert, []).unwrap();
        run_to(&mut connection, &path, &MIGRATIONS[..5]).unwrap();
        let row: (u32, i64) = connection
            .query_row("SELECT network, heard_ms FROM supernodes", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!(row, (7, 8));
        let measured = |connection: &Connection| {
            connection.query_row("SELECT count(*) FROM supernode_quality", [], |row| row.get::<_, u32>(0))
        };
        assert_eq!(measured(&connection).unwrap(), 0);
        let copy = Connection::open(folder.path().join("store.db.before-5")).unwrap();
        let score: u32 = copy.query_row("SELECT score FROM supernodes", [], |row| row.get(0)).unwrap();
        assert_eq!(score, 9);
        assert!(measured(&copy).is_err(), "the copy is as it was");
    }

    #[test]
    fn a_migration_that_fails_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let mut connection = Connection::open(&path).unwrap();
        run(&mut connection, &path).unwrap();
        let all = [MIGRATIONS, &["CREATE TABLE pets (name TEXT); NONSENSE;"]].concat();
        assert!(matches!(run_to(&mut connection, &path, &all), Err(StoreError::Broken { .. })));
        let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, SCHEMA);
        assert!(connection.execute("INSERT INTO pets VALUES ('Rex')", []).is_err());
    }
}
