//! The metadata database: records in buckets, in SQLite with a write-ahead log.
//!
//! One thread writes; it commits everything that waits in one transaction (group commit). A commit that carries
//! anything [`Durability::Durable`] syncs the log and so survives a power cut; one of only
//! [`Durability::Relaxed`] records does not, and survives the death of the process. A second thread copies the log
//! into the file while nobody waits (passive checkpoints), so that no commit ever does.
//!
//! Reads go to connections of their own and see every change whose call has returned. The file's format is in
//! docs/formats/database.md.

use crate::error::{Error, Result};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// `PRAGMA application_id`: "Wrhf".
const APPLICATION: i64 = 0x5772_6866;
/// `PRAGMA user_version`: the format of the tables.
const VERSION: i64 = 1;
/// Log pages (4 KiB each) after which the log is copied into the file.
const CHECKPOINT_PAGES: u64 = 512;
/// Bytes of the log that the file system sets aside: on a full disk, removals are still recorded.
const RESERVE: u64 = CHECKPOINT_PAGES * 4096;
/// Read connections that are kept.
const READERS: usize = 4;
/// How long to wait for a lock of another process, such as `system check`.
const BUSY: Duration = Duration::from_secs(10);

/// What a committed change survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// The death of the process.
    Relaxed,
    /// A power cut: for what a user is told is done.
    Durable,
}

/// The metadata database. Clones share it; the last one closes it.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    jobs: Mutex<Option<Sender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    readers: Mutex<Vec<Connection>>,
}

/// Runs inside the batch (without a connection if there is none to be had); the answer is given by `Reply` once the
/// batch is committed.
type Work = Box<dyn FnOnce(Option<&Connection>) -> Reply + Send>;
type Reply = Box<dyn FnOnce(std::result::Result<(), String>) + Send>;

struct Job {
    durability: Durability,
    work: Work,
}

/// Changes and reads within one atomic step.
pub struct Transaction<'a> {
    connection: &'a Connection,
}

impl Transaction<'_> {
    /// Writes a record, over an older one.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn put(&self, bucket: &str, key: &str, value: &[u8]) -> Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO records (bucket, key, value) VALUES (?1, ?2, ?3)
                 ON CONFLICT (bucket, key) DO UPDATE SET value = excluded.value",
            )
            .and_then(|mut statement| statement.execute(params![bucket, key, value]))
            .map(drop)
            .map_err(|source| Error::Database { operation: "write a record", source })
    }

    /// Removes a record; says whether it was there.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn delete(&self, bucket: &str, key: &str) -> Result<bool> {
        self.connection
            .prepare_cached("DELETE FROM records WHERE bucket = ?1 AND key = ?2")
            .and_then(|mut statement| statement.execute(params![bucket, key]))
            .map(|count| count > 0)
            .map_err(|source| Error::Database { operation: "delete a record", source })
    }

    /// Returns a record.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>> {
        get(self.connection, bucket, key)
    }

    /// Returns all records of a bucket, by key.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn scan(&self, bucket: &str) -> Result<Vec<(String, Vec<u8>)>> {
        scan(self.connection, bucket)
    }
}

impl Database {
    /// Opens the database at `path`, made if absent, and starts its two threads.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened, is not a database of Wharf, or is of a later version.
    pub fn open(path: &Path) -> Result<Self> {
        make_private(path)?;
        let writer = connect(path)?;
        prepare(&writer, path)?;
        reserve(path)?;
        let (jobs, queue) = channel();
        let (wake, woken) = sync_channel(1);
        let checkpointer = connect(path)?;
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|source| Error::Io {
                operation: "start the thread for",
                path: path.to_owned(),
                source,
            })
        };
        let threads = vec![
            spawn("database", Box::new(move || write_loop(&writer, &queue, &wake)))?,
            spawn("checkpoint", Box::new(move || checkpoint_loop(&checkpointer, &woken)))?,
        ];
        let inner = Inner {
            path: path.to_owned(),
            jobs: Mutex::new(Some(jobs)),
            threads: Mutex::new(threads),
            readers: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Writes a record and waits until it is committed.
    ///
    /// # Errors
    ///
    /// If nothing was written: [`Error::Database`], [`Error::Commit`], [`Error::Closed`].
    pub fn put(&self, bucket: &str, key: &str, value: &[u8], durability: Durability) -> Result<()> {
        let (bucket, key, value) = (bucket.to_owned(), key.to_owned(), value.to_vec());
        self.transaction(durability, move |transaction| transaction.put(&bucket, &key, &value))
    }

    /// Removes a record and waits until that is committed; says whether it was there.
    ///
    /// # Errors
    ///
    /// As for [`Database::put`].
    pub fn delete(&self, bucket: &str, key: &str, durability: Durability) -> Result<bool> {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.transaction(durability, move |transaction| transaction.delete(&bucket, &key))
    }

    /// Runs `work` on the writing thread as one atomic step and waits until it is committed.
    ///
    /// If `work` fails, nothing of it is kept; other callers' steps in the same commit are not affected.
    ///
    /// # Errors
    ///
    /// What `work` returns, and as for [`Database::put`].
    pub fn transaction<T, E, F>(&self, durability: Durability, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    {
        let (answer, answered) = sync_channel(1);
        let work = move |connection: Option<&Connection>| -> Reply {
            let outcome = match connection {
                Some(connection) => step(connection, work),
                None => Err(Error::Commit("cannot begin".to_owned()).into()),
            };
            Box::new(move |committed: std::result::Result<(), String>| {
                let outcome = match (outcome, committed) {
                    (Ok(_), Err(problem)) => Err(Error::Commit(problem).into()),
                    (outcome, _) => outcome,
                };
                // The caller waits for the answer, so it cannot have gone away.
                drop(answer.send(outcome));
            })
        };
        let job = Job { durability, work: Box::new(work) };
        let jobs = self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = jobs.ok_or(Error::Closed)?.send(job);
        sent.map_err(|_gone| Error::Closed)?;
        answered.recv().map_err(|_gone| Error::Closed)?
    }

    /// Returns a record.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>> {
        self.read(|connection| get(connection, bucket, key))
    }

    /// Returns all records of a bucket, by key.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub fn scan(&self, bucket: &str) -> Result<Vec<(String, Vec<u8>)>> {
        self.read(|connection| scan(connection, bucket))
    }

    /// Runs SQLite's own check of the file; returns what it finds, nothing if all is well.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] if the check itself cannot run.
    pub fn check(&self) -> Result<Vec<String>> {
        self.read(|connection| {
            let found = connection
                .prepare("PRAGMA quick_check")
                .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
                .map_err(|source| Error::Database { operation: "check", source })?;
            Ok(if found == ["ok"] { Vec::new() } else { found })
        })
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let lock = || self.inner.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = lock().pop();
        let connection = match kept {
            Some(connection) => connection,
            None => connect(&self.inner.path)?,
        };
        let outcome = work(&connection);
        let mut readers = lock();
        if readers.len() < READERS {
            readers.push(connection);
        }
        outcome
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A thread that panicked has said so; there is nothing to do about it here.
            drop(thread.join());
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transaction")
    }
}

/// Makes the file if it is not there, for its owner alone: records hold what users put into environments. `SQLite` gives the
/// files beside it the same mode.
fn make_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    made.map(drop).map_err(|source| Error::Io { operation: "create", path: path.to_owned(), source })
}

fn connect(path: &Path) -> Result<Connection> {
    let database = |source| Error::Database { operation: "open", source };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(database)?;
    connection.busy_timeout(BUSY).map_err(database)?;
    connection
        .execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=NORMAL;")
        .map_err(database)?;
    connection.set_prepared_statement_cache_capacity(16);
    Ok(connection)
}

fn prepare(connection: &Connection, path: &Path) -> Result<()> {
    let database = |source| Error::Database { operation: "open", source };
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let application = pragma("application_id").map_err(database)?;
    let version = pragma("user_version").map_err(database)?;
    match (application, version) {
        (0, 0) => connection
            .execute_batch(&format!(
                "BEGIN IMMEDIATE;
                 CREATE TABLE IF NOT EXISTS records (
                     id INTEGER PRIMARY KEY, bucket TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
                     UNIQUE (bucket, key));
                 PRAGMA application_id = {APPLICATION};
                 PRAGMA user_version = {VERSION};
                 COMMIT;"
            ))
            .map_err(database),
        (APPLICATION, VERSION) => Ok(()),
        (APPLICATION, found) => Err(Error::DatabaseVersion { found, known: VERSION }),
        _ => Err(Error::ForeignDatabase(path.to_owned())),
    }
}

/// Sets room aside for the log beyond its end (`FALLOC_FL_KEEP_SIZE`, fallocate(2)), which `SQLite` does not see.
///
/// The log is written over from its beginning whenever all of it is in the file, so the room is used again and again.
fn reserve(path: &Path) -> Result<()> {
    use rustix::fs::FallocateFlags;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&log);
    let file = file.map_err(|source| Error::Io { operation: "open", path: log.into(), source })?;
    // Where a file system cannot, or is full already, there is no such room, and all else goes on.
    rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, RESERVE).ok();
    Ok(())
}

fn get(connection: &Connection, bucket: &str, key: &str) -> Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT value FROM records WHERE bucket = ?1 AND key = ?2")
        .and_then(|mut statement| statement.query_row(params![bucket, key], |row| row.get(0)).optional())
        .map_err(|source| Error::Database { operation: "read a record", source })
}

fn scan(connection: &Connection, bucket: &str) -> Result<Vec<(String, Vec<u8>)>> {
    connection
        .prepare_cached("SELECT key, value FROM records WHERE bucket = ?1 ORDER BY key")
        .and_then(|mut statement| {
            statement.query_map(params![bucket], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .map_err(|source| Error::Database { operation: "read a bucket", source })
}

/// Runs one caller's work under a savepoint.
fn step<T, E: From<Error>>(
    connection: &Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let run = |sql: &str| {
        connection
            .execute_batch(sql)
            .map_err(|source| Error::Database { operation: "set a savepoint", source })
    };
    run("SAVEPOINT step")?;
    let outcome = work(&Transaction { connection });
    match &outcome {
        Ok(_) => run("RELEASE step")?,
        Err(_) => run("ROLLBACK TO step; RELEASE step")?,
    }
    outcome
}

fn write_loop(connection: &Connection, queue: &Receiver<Job>, wake: &SyncSender<()>) {
    let mut full = false;
    let mut unsaved = 0;
    while let Ok(first) = queue.recv() {
        let batch: Vec<Job> = std::iter::once(first).chain(queue.try_iter()).collect();
        let durable = batch.iter().any(|job| job.durability == Durability::Durable);
        let mut replies = Vec::with_capacity(batch.len());
        let outcome = commit(connection, batch, durable != full, durable, &mut replies);
        full = durable;
        let outcome = outcome.map_err(|error| error.to_string());
        for reply in replies {
            reply(outcome.clone());
        }
        unsaved += 1;
        if unsaved >= CHECKPOINT_PAGES / 8 {
            unsaved = 0;
            // A full channel means that it is awake already.
            wake.try_send(()).ok();
        }
    }
}

fn commit(
    connection: &Connection,
    batch: Vec<Job>,
    switch: bool,
    durable: bool,
    replies: &mut Vec<Reply>,
) -> rusqlite::Result<()> {
    let level = if durable { "PRAGMA synchronous=FULL" } else { "PRAGMA synchronous=NORMAL" };
    let ready = if switch { connection.execute_batch(level) } else { Ok(()) };
    let begun = ready.and_then(|()| connection.execute_batch("BEGIN IMMEDIATE"));
    for job in batch {
        let connection = begun.is_ok().then_some(connection);
        replies.extend(guarded(connection, job.work));
    }
    begun?;
    let committed = connection.execute_batch("COMMIT");
    if committed.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    committed
}

/// Runs `work`; if it panics, its changes are undone and its caller learns that there is no answer.
fn guarded(connection: Option<&Connection>, work: Work) -> Option<Reply> {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(connection)));
    if outcome.is_err()
        && let Some(connection) = connection
    {
        drop(connection.execute_batch("ROLLBACK TO step; RELEASE step"));
    }
    outcome.ok()
}

fn checkpoint_loop(connection: &Connection, wake: &Receiver<()>) {
    while wake.recv().is_ok() {
        // A checkpoint that cannot run now runs after the next batch of changes.
        drop(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_row| Ok(())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn records_survive_reopening() {
        let scratch = Scratch::new();
        let path = scratch.path().join("wharf.db");
        let database = Database::open(&path).unwrap();
        database.put("a", "1", b"one", Durability::Durable).unwrap();
        database.put("a", "2", b"two", Durability::Relaxed).unwrap();
        database.put("b", "1", b"other", Durability::Relaxed).unwrap();
        database.put("a", "1", b"uno", Durability::Relaxed).unwrap();
        let expect = vec![("1".to_owned(), b"uno".to_vec()), ("2".to_owned(), b"two".to_vec())];
        assert_eq!(database.scan("a").unwrap(), expect);
        drop(database);
        let database = Database::open(&path).unwrap();
        assert_eq!(database.scan("a").unwrap(), expect);
        assert!(database.delete("a", "1", Durability::Durable).unwrap());
        assert!(!database.delete("a", "1", Durability::Durable).unwrap());
        assert_eq!(database.get("a", "1").unwrap(), None);
        assert_eq!(database.check().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_failed_or_panicking_step_changes_nothing_and_harms_nobody() {
        let scratch = Scratch::new();
        let database = Database::open(&scratch.path().join("wharf.db")).unwrap();
        let failed: Result<()> = database.transaction(Durability::Durable, |transaction| {
            transaction.put("a", "1", b"x")?;
            Err(Error::Cancelled)
        });
        assert!(matches!(failed, Err(Error::Cancelled)));
        let panicked: Result<()> = database.transaction(Durability::Relaxed, |transaction| {
            transaction.put("a", "2", b"x")?;
            panic!("on purpose")
        });
        assert!(matches!(panicked, Err(Error::Closed)));
        database.put("a", "3", b"x", Durability::Relaxed).unwrap();
        assert_eq!(database.scan("a").unwrap(), vec![("3".to_owned(), b"x".to_vec())]);
    }

    #[test]
    fn many_threads_share_commits() {
        let scratch = Scratch::new();
        let database = Database::open(&scratch.path().join("wharf.db")).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let database = &database;
                scope.spawn(move || {
                    for index in 0..50 {
                        let durability =
                            if index % 5 == 0 { Durability::Durable } else { Durability::Relaxed };
                        let key = format!("{thread}-{index}");
                        database.put("n", &key, key.as_bytes(), durability).unwrap();
                        assert_eq!(database.get("n", &key).unwrap().unwrap(), key.as_bytes());
                    }
                });
            }
        });
        assert_eq!(database.scan("n").unwrap().len(), 400);
    }

    #[test]
    fn refuses_what_is_not_its_own() {
        let scratch = Scratch::new();
        let path = scratch.path().join("later.db");
        drop(Database::open(&path).unwrap());
        Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
        assert!(matches!(Database::open(&path), Err(Error::DatabaseVersion { found: 99, known: VERSION })));
        let path = scratch.path().join("foreign.db");
        Connection::open(&path).unwrap().execute_batch("PRAGMA application_id = 7").unwrap();
        assert!(matches!(Database::open(&path), Err(Error::ForeignDatabase(_))));
        let path = scratch.path().join("garbage.db");
        std::fs::write(&path, [7_u8; 5000]).unwrap();
        assert!(matches!(Database::open(&path), Err(Error::Database { .. })));
    }
}
