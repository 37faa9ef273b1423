//! The stores whose durability is compared: ours, and the two that prove the proof itself.
//!
//! Used by the power-cut proof. A commit puts an object and its index entry, in two tables, in one transaction, and returns
//! only when the store says that both are durable.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use records::{ColdTable, Db, Options, RawTable};
use rusqlite::OptionalExtension;

const OBJECTS: RawTable = RawTable::hot(900, "objects");
const INDEX: RawTable = RawTable::hot(901, "index");
/// Ours writes the index entry a third time, into a cold table, which must agree.
const ARCHIVE: ColdTable = RawTable::cold(902, "archive");
/// Longer than the index of cold tables takes to be made again.
const COLD_LIMIT: Duration = Duration::from_secs(20);

/// The object and the index entry of a key.
pub type Pair = (Option<Vec<u8>>, Option<Vec<u8>>);

/// A store under test.
pub trait Store: Send + Sync {
    /// Puts both rows; gives the revision, where there is such a thing.
    fn commit(&self, key: &str, object: Vec<u8>, index: Vec<u8>) -> Result<u64>;
    /// Both rows of a key.
    fn get(&self, key: &str) -> Result<Pair>;
    /// The store's revision; `u64::MAX` where there is no such thing.
    fn revision(&self) -> u64;
}

/// The stores by name.
pub const NAMES: [&str; 3] = ["records", "sqlite", "sled"];

/// Opens a store by its name.
pub fn open(name: &str, dir: &Path, checkpoint_bytes: u64) -> Result<Box<dyn Store>> {
    Ok(match name {
        "records" => Box::new(Ours::open(dir, checkpoint_bytes)?),
        "sqlite" => Box::new(Sqlite::open(dir)?),
        "sled" => Box::new(Sled::open(dir)?),
        _ => anyhow::bail!("{name} is no store; there are {}", NAMES.join(", ")),
    })
}

struct Ours {
    db: Db,
    runtime: tokio::runtime::Runtime,
}

impl Ours {
    fn open(dir: &Path, checkpoint_bytes: u64) -> Result<Self> {
        let mut options = Options::at(dir);
        options.checkpoint_bytes = checkpoint_bytes;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("start a runtime")?;
        Ok(Self { db: Db::open(options).context("open the store")?, runtime })
    }
}

impl Store for Ours {
    fn commit(&self, key: &str, object: Vec<u8>, index: Vec<u8>) -> Result<u64> {
        let key = key.to_owned();
        let committed = self.runtime.block_on(self.db.transact(move |tx| {
            tx.put(OBJECTS, key.as_bytes(), object);
            tx.put_cold(ARCHIVE, key.as_bytes(), index.clone());
            tx.put(INDEX, key.as_bytes(), index);
            Ok::<_, std::convert::Infallible>(())
        }));
        Ok(committed.context("commit")?.revision)
    }

    fn get(&self, key: &str) -> Result<Pair> {
        let get = |table| self.db.read(|view| view.get(table, key.as_bytes())).map(|entry| entry.value.to_vec());
        let (object, index) = (get(OBJECTS), get(INDEX));
        let begun = Instant::now();
        let archived = loop {
            match self.runtime.block_on(self.db.cold().get(ARCHIVE, key.as_bytes())) {
                Ok(archived) => break archived.map(|entry| entry.value.to_vec()),
                Err(why) => anyhow::ensure!(begun.elapsed() < COLD_LIMIT, "hangs: {why}"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        anyhow::ensure!(archived == index, "torn: the cold table differs for {key}");
        Ok((object, index))
    }

    fn revision(&self) -> u64 {
        self.db.revision()
    }
}

/// WAL with `synchronous=FULL`: known to be durable. If this one is bad, the proof is wrong.
struct Sqlite(std::sync::Mutex<rusqlite::Connection>);

impl Sqlite {
    fn open(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).context("create the database's folder")?;
        let connection = rusqlite::Connection::open(dir.join("db")).context("open the database")?;
        connection.pragma_update(None, "journal_mode", "WAL").context("choose WAL")?;
        connection.pragma_update(None, "synchronous", "FULL").context("choose FULL")?;
        let tables = "CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, value BLOB); \
                      CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB);";
        connection.execute_batch(tables).context("create the tables")?;
        Ok(Self(std::sync::Mutex::new(connection)))
    }
}

impl Store for Sqlite {
    fn commit(&self, key: &str, object: Vec<u8>, index: Vec<u8>) -> Result<u64> {
        let mut connection = self.0.lock().map_err(|_| anyhow::anyhow!("another writer has panicked"))?;
        let transaction = connection.transaction().context("begin")?;
        transaction
            .execute("INSERT OR REPLACE INTO objects VALUES (?1, ?2)", (key, object))
            .context("put the object")?;
        transaction
            .execute("INSERT OR REPLACE INTO entries VALUES (?1, ?2)", (key, index))
            .context("put the index entry")?;
        transaction.commit().context("commit")?;
        Ok(0)
    }

    fn get(&self, key: &str) -> Result<Pair> {
        let connection = self.0.lock().map_err(|_| anyhow::anyhow!("another reader has panicked"))?;
        let get = |sql: &str| connection.query_row(sql, [key], |row| row.get(0)).optional().context("get");
        Ok((get("SELECT value FROM objects WHERE key = ?1")?, get("SELECT value FROM entries WHERE key = ?1")?))
    }

    fn revision(&self) -> u64 {
        u64::MAX
    }
}

/// sled with `flush` after every transaction: known to lose. If this one is good, the proof proves nothing.
struct Sled {
    db: sled::Db,
    objects: sled::Tree,
    index: sled::Tree,
}

impl Sled {
    fn open(dir: &Path) -> Result<Self> {
        let db = sled::Config::new().path(dir).cache_capacity(64 << 20).open().context("open sled")?;
        let (objects, index) =
            (db.open_tree("objects").context("open a tree")?, db.open_tree("index").context("open a tree")?);
        Ok(Self { db, objects, index })
    }
}

impl Store for Sled {
    fn commit(&self, key: &str, object: Vec<u8>, index: Vec<u8>) -> Result<u64> {
        use sled::Transactional;
        let both = (&self.objects, &self.index);
        let put = both.transaction(|(objects, entries)| {
            objects.insert(key.as_bytes(), object.as_slice())?;
            entries.insert(key.as_bytes(), index.as_slice())?;
            Ok::<_, sled::transaction::ConflictableTransactionError<()>>(())
        });
        put.map_err(|error| anyhow::anyhow!("sled: {error:?}"))?;
        self.db.flush().context("flush")?;
        Ok(0)
    }

    fn get(&self, key: &str) -> Result<Pair> {
        let get = |tree: &sled::Tree| tree.get(key).map(|value| value.map(|value| value.to_vec())).context("get");
        Ok((get(&self.objects)?, get(&self.index)?))
    }

    fn revision(&self) -> u64 {
        u64::MAX
    }
}
