//! `sqlite`: a database in memory, by the SQLite library itself (the `rusqlite` crate brings its source).

use rusqlite::{Connection, OpenFlags};
use workload_program::mix::{Random, fold, fold_bytes};
use workload_program::work::{PrepareError, Work, iterate};

/// Rows that stay.
const ROWS: u32 = 4_000;
/// Values of the indexed column: each select finds about 40 rows.
const GROUPS: u32 = 100;
/// Inserts, selects and updates of an iteration, each as many.
const EACH: u32 = 128;
/// Statements in an iteration: those, and the one that takes the inserted rows out again.
const OPERATIONS: u64 = 3 * EACH as u64 + 1;
const SEED: u64 = 0x0005_0117;

/// In memory means there, too, where SQLite would use a temporary file; and the least of file locking.
const SCHEMA: &str = "
    PRAGMA temp_store = MEMORY;
    PRAGMA journal_mode = MEMORY;
    CREATE TABLE items (id INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, name TEXT NOT NULL, amount INTEGER NOT NULL);
    CREATE INDEX items_by_bucket ON items (bucket);
";
const INSERT: &str = "INSERT INTO items (id, bucket, name, amount) VALUES (?1, ?2, ?3, ?4)";
const SELECT: &str = "SELECT count(*), sum(amount), max(name) FROM items WHERE bucket = ?1";
const UPDATE: &str = "UPDATE items SET amount = ?2 WHERE id = ?1";
const DELETE: &str = "DELETE FROM items WHERE id >= ?1";

/// The workload `sqlite`; one operation is one statement.
pub struct Sqlite {
    database: Connection,
}

impl Sqlite {
    /// Makes the table, its index and its rows. One iteration is made beforehand: it leaves the rows as every
    /// iteration finds and leaves them.
    ///
    /// # Errors
    ///
    /// What SQLite says.
    pub fn new() -> Result<Self, PrepareError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_MEMORY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database =
            Connection::open_with_flags(":memory:", flags).map_err(PrepareError::step("open a database"))?;
        database.execute_batch(SCHEMA).map_err(PrepareError::step("make a table"))?;
        let mut work = Self { database };
        work.fill().map_err(PrepareError::step("fill a table"))?;
        work.transact().map_err(PrepareError::step("use a table"))?;
        Ok(work)
    }

    fn fill(&mut self) -> rusqlite::Result<()> {
        let mut random = Random::new(SEED);
        let transaction = self.database.transaction()?;
        {
            let mut insert = transaction.prepare(INSERT)?;
            for id in 0..ROWS {
                insert.execute((id, random.below(GROUPS), name(&mut random), random.below(1_000_000)))?;
            }
        }
        transaction.commit()
    }

    /// One iteration: a transaction of inserts, selects and updates, and one that takes the inserted rows out.
    fn transact(&mut self) -> rusqlite::Result<u64> {
        let mut random = Random::new(SEED + 1);
        let mut sum = 0;
        let transaction = self.database.transaction()?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            let mut select = transaction.prepare_cached(SELECT)?;
            let mut update = transaction.prepare_cached(UPDATE)?;
            for number in 0..EACH {
                let row = (ROWS + number, random.below(GROUPS), name(&mut random), random.below(1_000_000));
                sum = fold(sum, insert.execute(row)? as u64);
                let changed = update.execute((random.below(ROWS), random.below(1_000_000)))?;
                sum = fold(sum, changed as u64);
                sum = select.query_row((random.below(GROUPS),), |row| {
                    let (count, amount): (i64, i64) = (row.get(0)?, row.get(1)?);
                    let largest = row.get_ref(2)?.as_str()?.as_bytes();
                    Ok(fold_bytes(fold(fold(sum, count.cast_unsigned()), amount.cast_unsigned()), largest))
                })?;
            }
        }
        transaction.commit()?;
        let deleted = self.database.prepare_cached(DELETE)?.execute((ROWS,))?;
        Ok(fold(sum, deleted as u64))
    }
}

impl Work for Sqlite {
    fn operations(&self) -> u64 {
        OPERATIONS
    }

    /// A statement that fails comes to another checksum.
    fn repeat(&mut self, iterations: u64) -> u64 {
        iterate(iterations, || self.transact().unwrap_or(0))
    }
}

fn name(random: &mut Random) -> String {
    format!("item-{:05}-{:08x}", random.below(100_000), random.below(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_iteration_finds_the_rows_as_the_one_before_left_them() {
        let mut work = Sqlite::new().unwrap();
        let first = work.transact().unwrap();
        assert_eq!(work.transact().unwrap(), first);
        let rows: u32 = work.database.query_row("SELECT count(*) FROM items", (), |row| row.get(0)).unwrap();
        assert_eq!(rows, ROWS);
    }

    #[test]
    fn the_select_uses_the_index() {
        let work = Sqlite::new().unwrap();
        let plan: String =
            work.database.query_row(&format!("EXPLAIN QUERY PLAN {SELECT}"), (1,), |row| row.get(3)).unwrap();
        assert!(plan.contains("USING INDEX items_by_bucket"), "{plan}");
    }

    #[test]
    fn a_row_that_was_changed_is_noticed() {
        let mut work = Sqlite::new().unwrap();
        let right = work.transact().unwrap();
        work.database.execute("UPDATE items SET name = 'zzz' WHERE bucket < 50", ()).unwrap();
        assert_ne!(work.transact().unwrap(), right);
    }
}
