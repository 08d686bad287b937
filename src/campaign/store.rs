//! The store: one SQLite file with all trials of a campaign, from before the first is run.
//!
//! A finished trial is one transaction, so whoever is killed loses the trials under way and no more.

use super::expand::{Draw, Kind, Trial};
use super::golden::value;
use super::outcome::{Outcome, Verdict};
use super::plan::{OWN_METRICS, Plan, Source};
use super::ran::{Ending, LastLook, Made, Overhead, Ran};
use crate::victim::Output;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Params, Row, Transaction, params};
use rustix::fs::{FlockOperation, flock, statfs};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Each brings a store of the version before to the next; a new store has them all.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];
/// Tells our files from other programs' (`PRAGMA application_id`): "vmfi".
const APPLICATION: i64 = 0x766d_6669;
/// How long another process's transaction is waited for.
const BUSY: Duration = Duration::from_secs(30);
/// File systems of networks, by `f_type` of statfs(2), on which a write-ahead log's shared memory
/// does not work: NFS, SMB and its relatives, Lustre, GPFS, AFS, Ceph, 9P, BeeGFS, FUSE.
const NETWORK: [u64; 12] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x0bd0_0bd0,
    0x4750_4653,
    0x5346_414f,
    0x6b41_4653,
    0x00c3_6400,
    0x0102_1997,
    0x1983_0326,
    0x6573_5546,
];

/// A store that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite fails.
    #[error("the store {path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file cannot be used.
    #[error("the store {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no such file.
    #[error("there is no store {0}; 'vmfi campaign run PLAN --store {0}' makes one")]
    Missing(PathBuf),
    /// It is something else.
    #[error("{0} is no store of a campaign: 'vmfi campaign run' makes those")]
    NoStore(PathBuf),
    /// A later version of vmfi wrote it.
    #[error(
        "{path} was written by a newer vmfi (schema {found}, this one knows {known}): take that one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// Somebody else runs the campaign.
    #[error("{0} is in use: another 'vmfi campaign run' has it")]
    InUse(PathBuf),
    /// It is another campaign's.
    #[error("{path} is of another {what}: it has {found}, and this is {own}; take another store")]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: String,
        /// What it has.
        found: String,
        /// What is asked for.
        own: String,
    },
    /// What is in it cannot be.
    #[error("the store {path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is no such trial.
    #[error("{path} has no trial {number}")]
    NoTrial {
        /// The file.
        path: PathBuf,
        /// The number asked for.
        number: u64,
    },
}

/// What a campaign is, by name.
pub type Facts = BTreeMap<String, String>;

/// The facts that are the same of all stores of one campaign, beside the plan.
pub const SAME: [&str; 7] =
    ["kernel", "program", "qemu", "qemu_version", "accelerator", "guest_cpu", GOLDEN];
/// What the golden runs have printed.
pub const GOLDEN: &str = "golden_output";
/// What stands there where that is another one each time.
pub const NOT_REPEATABLE: &str = "another one each time";
/// The name of the plan's digest among the facts.
pub const DIGEST: &str = "plan_digest";
/// The plan itself, and where it was read from.
pub const PLAN: &str = "plan";
/// See [`PLAN`].
pub const PLAN_PATH: &str = "plan_path";
/// Which part of the campaign it is.
pub const SHARD: &str = "shard";
/// What the processes of its guests bear.
pub const MARK: &str = "mark";

/// A store, opened.
pub struct Store {
    path: PathBuf,
    connection: Connection,
    /// Held as long as trials are run.
    _lock: Option<Lock>,
}

/// A run in a store.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Which.
    pub trial: Trial,
    /// What it came to, if it is finished.
    pub verdict: Option<Verdict>,
    /// Which start of the guest it was made from.
    pub boot: Option<u64>,
    /// What was seen of it.
    pub ran: Option<Ran>,
}

impl Store {
    /// The store at `path`, to be run: made where there is none. Nobody else may run it meanwhile.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = Lock::of(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut store = Self::connect(path, flags, Some(lock))?;
        store.journal()?;
        store.migrate()?;
        Ok(store)
    }

    /// The store at `path`, to be read.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing(path.to_owned()));
        }
        let store = Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, None);
        let store = match store {
            Ok(store) => store,
            // As others may read what they may not write.
            Err(_) => Self::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, None)?,
        };
        match store.version()? {
            version if version < MIGRATIONS.len() => Err(StoreError::NoStore(path.to_owned())),
            _ => Ok(store),
        }
    }

    fn connect(path: &Path, flags: OpenFlags, lock: Option<Lock>) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Sqlite { path: path.to_owned(), source };
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        let store = Self { path: path.to_owned(), connection, _lock: lock };
        store.version()?;
        Ok(store)
    }

    /// Its schema's version; 0 of a new file.
    fn version(&self) -> Result<usize, StoreError> {
        let number =
            |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let ids = number("application_id").and_then(|id| Ok((id, number("user_version")?)));
        match ids {
            Ok((APPLICATION, version)) => {
                self.known(usize::try_from(version).unwrap_or(usize::MAX))
            }
            Ok((0, 0)) if self.is_empty() => Ok(0),
            Err(source)
                if source.sqlite_error_code() != Some(rusqlite::ErrorCode::NotADatabase) =>
            {
                Err(self.failed(source))
            }
            _ => Err(StoreError::NoStore(self.path.clone())),
        }
    }

    fn is_empty(&self) -> bool {
        let count = "SELECT count(*) FROM sqlite_schema";
        self.connection.query_row(count, [], |row| row.get::<_, i64>(0)).is_ok_and(|n| n == 0)
    }

    /// The version `found`, unless it is one of a later vmfi.
    fn known(&self, found: usize) -> Result<usize, StoreError> {
        let known = MIGRATIONS.len();
        let newer = || StoreError::Newer { path: self.path.clone(), found, known };
        (found <= known).then_some(found).ok_or_else(newer)
    }

    /// A write-ahead log where the file system can: readers are not held up then.
    fn journal(&self) -> Result<(), StoreError> {
        let mode = if on_network(&self.path) { "TRUNCATE" } else { "WAL" };
        let set = |mode: &str| {
            self.connection
                .pragma_update_and_check(None, "journal_mode", mode, |row| row.get::<_, String>(0))
        };
        let now = set(mode).map_err(|source| self.failed(source))?;
        if !now.eq_ignore_ascii_case(mode) {
            set("TRUNCATE").map_err(|source| self.failed(source))?;
        }
        let set = self.connection.pragma_update(None, "synchronous", "FULL");
        set.map_err(|source| self.failed(source))
    }

    fn migrate(&mut self) -> Result<(), StoreError> {
        let version = self.version()?;
        let migrate = |connection: &mut Connection| {
            let step = connection.transaction()?;
            for sql in &MIGRATIONS[version..] {
                step.execute_batch(sql)?;
            }
            step.pragma_update(None, "application_id", APPLICATION)?;
            step.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
            step.commit()
        };
        if version < MIGRATIONS.len() {
            migrate(&mut self.connection).map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Sqlite { path: self.path.clone(), source }
    }

    fn damaged(&self, what: impl Into<String>) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what: what.into() }
    }

    /// What the campaign is.
    pub fn facts(&self) -> Result<Facts, StoreError> {
        let pair = |row: &Row| Ok((row.get(0)?, row.get(1)?));
        Ok(self.all("SELECT name, value FROM facts", [], pair)?.into_iter().collect())
    }

    /// The plan that it is of.
    pub fn plan(&self) -> Result<Plan, StoreError> {
        let facts = self.facts()?;
        let (text, path) = facts.get(PLAN).zip(facts.get(PLAN_PATH)).ok_or_else(|| {
            self.damaged("it has no plan; was the first 'vmfi campaign run' ended at its start?")
        })?;
        let plan = Plan::parse(text.clone(), Path::new(path));
        plan.map_err(|error| self.damaged(error.to_string()))
    }

    /// Writes down what a campaign is, and all its trials; where that is done, an error unless it is
    /// this campaign.
    pub fn begin(&mut self, facts: &Facts, trials: &[Trial]) -> Result<(), StoreError> {
        let before = self.facts()?;
        if !before.is_empty() {
            return self.is_of(&before, facts);
        }
        self.step(|step| {
            for (name, value) in facts {
                step.execute("INSERT INTO facts VALUES (?1, ?2)", params![name, value])?;
            }
            trials.iter().try_for_each(|trial| add_trial(step, trial))
        })
    }

    /// Writes down more of what it is, once that is known; an error where it is known, and otherwise.
    pub fn learn(&mut self, facts: &Facts) -> Result<(), StoreError> {
        self.is_of(&self.facts()?, facts)?;
        self.step(|step| {
            for (name, value) in facts {
                step.execute("INSERT OR IGNORE INTO facts VALUES (?1, ?2)", params![name, value])?;
            }
            Ok(())
        })
    }

    /// An error where one of `facts` is otherwise in `known`.
    pub fn is_of(&self, known: &Facts, facts: &Facts) -> Result<(), StoreError> {
        let names = SAME.iter().chain(&[DIGEST, SHARD]);
        for name in names {
            let (found, own) = (known.get(*name), facts.get(*name));
            if let Some((found, own)) = found.zip(own).filter(|(found, own)| found != own) {
                let what = name.replace("plan_digest", "plan").replace('_', " ");
                let (path, found, own) = (self.path.clone(), found.clone(), own.clone());
                return Err(StoreError::Other { path, what, found, own });
            }
        }
        Ok(())
    }

    /// Every run, in the order in which they are to be made; with `Ran` of the finished ones of the
    /// `kinds`.
    pub fn trials(&self, kinds: &[Kind]) -> Result<Vec<Stored>, StoreError> {
        let mut draws: BTreeMap<u64, Vec<Draw>> = BTreeMap::new();
        let sql = "SELECT trial, number, target, fault, at FROM injections ORDER BY trial, number";
        let draw = |row: &Row| {
            let [trial, number, target, fault] = [0, 1, 2, 3].map(|index| row.get::<_, i64>(index));
            let draw = Draw {
                number: number? as u64,
                target: target? as usize,
                fault: fault? as usize,
                at: row.get(4)?,
            };
            Ok((trial? as u64, draw))
        };
        for (trial, draw) in self.all(sql, [], draw)? {
            draws.entry(trial).or_default().push(draw);
        }
        let sql = "SELECT number, kind, seed, boot, outcome, why, tolerated FROM trials ORDER BY \
                   kind = 'golden' DESC, kind = 'null' DESC, number";
        let rows = self.all(sql, [], |row| {
            let [number, seed] = [0, 2].map(|index| row.get::<_, i64>(index));
            let kind: String = row.get(1)?;
            let judged: (Option<String>, Option<String>, Option<bool>) =
                (row.get(4)?, row.get(5)?, row.get(6)?);
            let boot = row.get::<_, Option<i64>>(3)?.map(|boot| boot as u64);
            Ok((number? as u64, seed? as u64, kind, boot, judged))
        })?;
        let mut all = Vec::new();
        for (number, seed, kind, boot, judged) in rows {
            let kind = named(&kind).ok_or_else(|| self.damaged(format!("kind '{kind}'")))?;
            let injections = draws.remove(&number).unwrap_or_default();
            let verdict = self.verdict(judged)?;
            let wanted = verdict.is_some() && kinds.contains(&kind);
            let ran = if wanted { Some(self.ran(number)?) } else { None };
            all.push(Stored {
                trial: Trial { number, kind, seed, injections },
                verdict,
                boot,
                ran,
            });
        }
        Ok(all)
    }

    fn verdict(
        &self,
        (outcome, why, tolerated): (Option<String>, Option<String>, Option<bool>),
    ) -> Result<Option<Verdict>, StoreError> {
        let Some(outcome) = outcome else { return Ok(None) };
        let known = Outcome::named(&outcome);
        let outcome = known.ok_or_else(|| self.damaged(format!("outcome '{outcome}'")))?;
        let (why, tolerated) = (why.unwrap_or_default(), tolerated.unwrap_or(false));
        Ok(Some(Verdict { outcome, why, tolerated }))
    }

    /// What was seen of the finished run `number`, as far as judging needs it: the receipts of its
    /// injections are had from [`Store::receipts`].
    fn ran(&self, number: u64) -> Result<Ran, StoreError> {
        let plan = self.plan()?;
        let metrics = self.metrics(number)?;
        let variables = plan.metrics.iter().map(|metric| match metric.source {
            Source::Variable(_) => metrics.get(&metric.name).copied(),
            Source::Output(_) => None,
        });
        let variables = variables.collect();
        let sql = "SELECT exit_status, signal, time_ns, cpu_time_ns, host_cpu_time_ns, iterations, \
                   stdout, stderr, why, restore_ns, prepare_ns, read_ns FROM trials WHERE number = ?1";
        let row = self.connection.query_row(sql, [number as i64], |row| {
            let ns = |index| {
                row.get::<_, Option<i64>>(index)
                    .map(|ns| Duration::from_nanos(ns.unwrap_or(0) as u64))
            };
            let status: Option<u8> = row.get(0)?;
            let signal: Option<u8> = row.get(1)?;
            let ending = match (status, signal) {
                (Some(status), _) => Ending::Exited(status),
                (None, Some(signal)) => Ending::Signal(signal),
                (None, None) => {
                    Ending::GuestCrash(row.get::<_, Option<String>>(8)?.unwrap_or_default())
                }
            };
            let outputs: (Option<i64>, Option<i64>) = (row.get(6)?, row.get(7)?);
            let overhead = Overhead { restore: ns(9)?, prepare: ns(10)?, read: ns(11)? };
            let ran = Ran {
                ending,
                stdout: Output::default(),
                stderr: Output::default(),
                time: ns(2)?,
                cpu_time: ns(3)?,
                host_cpu_time: ns(4)?,
                iterations: row.get(5)?,
                variables,
                injections: Vec::new(),
                overhead,
            };
            Ok((ran, outputs))
        });
        let (ran, (stdout, stderr)) = row.map_err(|source| self.failed(source))?;
        let (stdout, stderr) = (self.output(stdout)?, self.output(stderr)?);
        Ok(Ran { stdout, stderr, ..ran })
    }

    /// The metrics of the finished run `number` that are numbers.
    pub fn metrics(&self, number: u64) -> Result<BTreeMap<String, f64>, StoreError> {
        let sql = "SELECT name, text FROM metrics WHERE trial = ?1";
        let pair = |row: &Row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?));
        let all = self.all(sql, [number as i64], pair)?.into_iter();
        Ok(all.filter_map(|(name, text)| Some((name, text?.parse().ok()?))).collect())
    }

    fn output(&self, id: Option<i64>) -> Result<Output, StoreError> {
        let Some(id) = id else { return Ok(Output::default()) };
        let sql = "SELECT bytes, total, hash FROM outputs WHERE id = ?1";
        let output = self.connection.query_row(sql, [id], |row| {
            let hash: String = row.get(2)?;
            let hash = u64::from_str_radix(&hash, 16).unwrap_or_default();
            Ok(Output { tail: row.get(0)?, total: row.get::<_, i64>(1)? as u64, hash })
        });
        output.map_err(|source| self.failed(source))
    }

    /// Writes down what came of a run, all of it or nothing.
    pub fn finish(
        &mut self,
        plan: &Plan,
        trial: &Trial,
        boot: u64,
        (ran, verdict): (&Ran, &Verdict),
    ) -> Result<(), StoreError> {
        self.step(|step| {
            let stdout = add_output(step, &ran.stdout)?;
            let stderr = add_output(step, &ran.stderr)?;
            let number = trial.number as i64;
            let (status, signal) = match ran.ending {
                Ending::Exited(status) => (Some(status), None),
                Ending::Signal(signal) => (None, Some(signal)),
                _ => (None, None),
            };
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            step.execute(
                "UPDATE trials SET boot = ?2, outcome = ?3, why = ?4, tolerated = ?5, \
                 exit_status = ?6, signal = ?7, landed = ?8, time_ns = ?9, cpu_time_ns = ?10, \
                 host_cpu_time_ns = ?11, iterations = ?12, stdout = ?13, stderr = ?14, \
                 restore_ns = ?15, prepare_ns = ?16, read_ns = ?17, host = ?18, finished = ?19 \
                 WHERE number = ?1",
                params![
                    number,
                    boot as i64,
                    verdict.outcome.name(),
                    verdict.why,
                    verdict.tolerated,
                    status,
                    signal,
                    ran.landed() as i64,
                    ns(ran.time),
                    ns(ran.cpu_time),
                    ns(ran.host_cpu_time),
                    ran.iterations,
                    stdout,
                    stderr,
                    ns(ran.overhead.restore),
                    ns(ran.overhead.prepare),
                    ns(ran.overhead.read),
                    host,
                    jiff::Timestamp::now().to_string(),
                ],
            )?;
            for made in &ran.injections {
                add_made(step, plan, trial, made)?;
            }
            add_metrics(step, plan, number, ran)
        })
    }

    /// Writes down that a run came to nothing.
    pub fn failure(&mut self, number: u64, why: &str) -> Result<(), StoreError> {
        let now = jiff::Timestamp::now().to_string();
        let sql = "INSERT INTO failures VALUES (?1, ?2, ?3)";
        self.step(|step| step.execute(sql, params![number as i64, now, why]).map(|_| ()))
    }

    /// How many came to nothing.
    pub fn failures(&self) -> Result<u64, StoreError> {
        let count = "SELECT count(*) FROM failures";
        let count = self.connection.query_row(count, [], |row| row.get::<_, i64>(0));
        Ok(count.map_err(|source| self.failed(source))? as u64)
    }

    /// How many runs of each kind came to each outcome; none: not finished.
    pub fn counts(&self) -> Result<Vec<(Kind, Option<Outcome>, u64)>, StoreError> {
        let sql = "SELECT kind, outcome, count(*) FROM trials GROUP BY kind, outcome";
        let counts = self.all(sql, [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, i64>(2)?))
        })?;
        let known = |(kind, outcome, count): (String, Option<String>, i64)| {
            let outcome = outcome.map(|name| Outcome::named(&name).ok_or(name)).transpose();
            match (named(&kind), outcome) {
                (Some(kind), Ok(outcome)) => Ok((kind, outcome, count as u64)),
                _ => Err(self.damaged(format!("trials of the kind '{kind}'"))),
            }
        };
        counts.into_iter().map(known).collect()
    }

    /// Everything that is known of a trial: column by column, as JSON.
    pub fn story(&self, number: u64) -> Result<serde_json::Value, StoreError> {
        let of_trial = "SELECT t.*, o.bytes AS stdout_text, o.total AS stdout_bytes, length(o.bytes) < o.total AS stdout_cut, e.bytes AS \
                        stderr_text, e.total AS stderr_bytes, length(e.bytes) < e.total AS stderr_cut FROM trials t LEFT JOIN outputs o ON \
                        t.stdout = o.id LEFT JOIN outputs e ON t.stderr = e.id WHERE t.number = ?1";
        let mut rows = self.json(of_trial, number)?;
        let missing = || StoreError::NoTrial { path: self.path.clone(), number };
        let mut story = rows.pop().ok_or_else(missing)?;
        for (name, sql) in [
            ("injections", "SELECT * FROM injections WHERE trial = ?1 ORDER BY number"),
            ("metrics", "SELECT * FROM metrics WHERE trial = ?1"),
            ("failures", "SELECT * FROM failures WHERE trial = ?1"),
        ] {
            let rows = self.json(sql, number)?.into_iter().map(serde_json::Value::Object);
            story.insert(name.to_owned(), rows.collect());
        }
        Ok(story.into())
    }

    fn json(
        &self,
        sql: &str,
        number: u64,
    ) -> Result<Vec<serde_json::Map<String, serde_json::Value>>, StoreError> {
        self.all(sql, [number as i64], |row| {
            let names = row.as_ref().column_names();
            let names: Vec<_> = names.into_iter().map(str::to_owned).collect();
            names
                .into_iter()
                .enumerate()
                .map(|(index, name)| {
                    let value = row.get::<_, Sql>(index)?;
                    let value = json(&name, value);
                    Ok((name, value))
                })
                .collect()
        })
    }

    /// Takes over what `other` has finished and this has not.
    pub fn take_over(&mut self, other: &Self) -> Result<u64, StoreError> {
        let attached = other.path.to_string_lossy().into_owned();
        let failed = |source| StoreError::Sqlite { path: self.path.clone(), source };
        self.connection.execute("ATTACH ?1 AS other", [attached]).map_err(failed)?;
        let taken = self.step(merge);
        let detached = self.connection.execute("DETACH other", []);
        detached.map_err(|source| self.failed(source))?;
        taken
    }

    fn step<T>(
        &mut self,
        work: impl FnOnce(&Transaction) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        let step = self.connection.transaction().and_then(|step| {
            let done = work(&step)?;
            step.commit()?;
            Ok(done)
        });
        step.map_err(|source| StoreError::Sqlite { path, source })
    }

    fn all<T>(
        &self,
        sql: &str,
        with: impl Params,
        each: impl FnMut(&Row) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.connection.prepare_cached(sql).and_then(|mut statement| {
            let rows = statement.query_map(with, each)?;
            rows.collect()
        });
        rows.map_err(|source| self.failed(source))
    }
}

/// Keeps others from running the campaign, by a file beside the store, which goes when it does.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// That of the store at `path`.
    fn of(store: &Path) -> Result<Self, StoreError> {
        let mut name = store.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let failed = |source| StoreError::File { path: store.to_owned(), source };
        loop {
            let file = File::create(&path).map_err(failed)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(StoreError::InUse(store.to_owned())),
                // Not every network's file system can.
                Err(error) => log::debug!("{}: cannot be locked: {error}", path.display()),
            }
            let lock = Self { path: path.clone(), file };
            // Whoever had it may have removed it meanwhile.
            if lock.is_there().map_err(failed)? {
                return Ok(lock);
            }
        }
    }

    fn is_there(&self) -> io::Result<bool> {
        let own = self.file.metadata()?;
        Ok(std::fs::metadata(&self.path).is_ok_and(|there| there.ino() == own.ino()))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.is_there().unwrap_or(false) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether the file at `path` is, or will be, on a file system of a network.
fn on_network(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let found = statfs(path).or_else(|_| statfs(folder.unwrap_or(Path::new("."))));
    // The kernel has it as a number of 32 bits.
    found.is_ok_and(|found| NETWORK.contains(&(found.f_type as u64 & 0xffff_ffff)))
}

fn named(kind: &str) -> Option<Kind> {
    [Kind::Golden, Kind::Null, Kind::Injected].into_iter().find(|own| own.name() == kind)
}

fn ns(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn add_trial(step: &Transaction, trial: &Trial) -> rusqlite::Result<()> {
    let number = trial.number as i64;
    let mut add =
        step.prepare_cached("INSERT INTO trials (number, kind, seed) VALUES (?1, ?2, ?3)")?;
    add.execute(params![number, trial.kind.name(), trial.seed as i64])?;
    let mut add = step.prepare_cached(
        "INSERT INTO injections (trial, number, target, fault, at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for draw in &trial.injections {
        let Draw { number: own, target, fault, at } = *draw;
        add.execute(params![number, own as i64, target as i64, fault as i64, at])?;
    }
    Ok(())
}

fn add_output(step: &Transaction, output: &Output) -> rusqlite::Result<i64> {
    let (hash, total) = (format!("{:016x}", output.hash), output.total as i64);
    let known = "SELECT id FROM outputs WHERE hash = ?1 AND total = ?2";
    let known = step.query_row(known, params![hash, total], |row| row.get(0)).optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    let add = "INSERT INTO outputs (hash, total, bytes) VALUES (?1, ?2, ?3)";
    step.execute(add, params![hash, total, output.tail])?;
    Ok(step.last_insert_rowid())
}

fn add_made(step: &Transaction, plan: &Plan, trial: &Trial, made: &Made) -> rusqlite::Result<()> {
    let drawn = trial.injections.iter().find(|draw| draw.number == made.number).copied();
    let draw = drawn.unwrap_or_else(|| Draw::of(plan, trial.seed, made.number));
    let receipt = made.receipt.as_ref().map(serde_json::to_string).transpose();
    let by = match &made.fate {
        Some(LastLook::Overwritten { by }) => Some(by.to_string()),
        Some(LastLook::Unknown { why }) => Some(why.clone()),
        _ => None,
    };
    step.execute(
        "INSERT OR REPLACE INTO injections VALUES \
         (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            trial.number as i64,
            made.number as i64,
            draw.target as i64,
            draw.fault as i64,
            draw.at,
            made.receipt.is_some(),
            made.why,
            receipt.unwrap_or_default(),
            made.at.map(ns),
            made.cpu_time.map(ns),
            made.iteration,
            made.fate.as_ref().map(LastLook::name),
            by,
        ],
    )?;
    Ok(())
}

fn add_metrics(step: &Transaction, plan: &Plan, number: i64, ran: &Ran) -> rusqlite::Result<()> {
    let mut add = step.prepare_cached("INSERT OR REPLACE INTO metrics VALUES (?1, ?2, ?3, ?4)")?;
    let [iterations, cpu_time] = OWN_METRICS;
    let own = [
        (iterations, ran.iterations.filter(|_| plan.program.counter.is_some())),
        (cpu_time, Some(ran.cpu_time.as_secs_f64())),
    ];
    let named = plan.metrics.iter().enumerate();
    let named = named.map(|(index, metric)| (metric.name.as_str(), value(plan, ran, index)));
    for (name, value) in own.into_iter().chain(named) {
        let text = value.map(|value| format!("{value:e}"));
        add.execute(params![number, name, value, text])?;
    }
    Ok(())
}

/// Copies what the attached store `other` has finished and this one has not; how many runs.
fn merge(step: &Transaction) -> rusqlite::Result<u64> {
    step.execute_batch(
        "CREATE TEMP TABLE taken AS SELECT number FROM other.trials o WHERE outcome IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM main.trials t WHERE t.number = o.number AND t.outcome IS NOT NULL);
         INSERT OR IGNORE INTO main.outputs (hash, total, bytes) SELECT hash, total, bytes FROM other.outputs;
         DELETE FROM main.injections WHERE trial IN (SELECT number FROM taken);
         DELETE FROM main.metrics WHERE trial IN (SELECT number FROM taken);
         DELETE FROM main.trials WHERE number IN (SELECT number FROM taken);
         INSERT INTO main.trials SELECT * FROM other.trials WHERE number IN (SELECT number FROM taken);
         UPDATE main.trials SET \
           stdout = (SELECT m.id FROM main.outputs m JOIN other.outputs o USING (hash, total) WHERE o.id = stdout), \
           stderr = (SELECT m.id FROM main.outputs m JOIN other.outputs o USING (hash, total) WHERE o.id = stderr) \
           WHERE number IN (SELECT number FROM taken);
         INSERT INTO main.injections SELECT * FROM other.injections WHERE trial IN (SELECT number FROM taken);
         INSERT INTO main.metrics SELECT * FROM other.metrics WHERE trial IN (SELECT number FROM taken);
         INSERT INTO main.failures SELECT * FROM other.failures f WHERE NOT EXISTS \
           (SELECT 1 FROM main.failures m WHERE (m.trial, m.time, m.why) = (f.trial, f.time, f.why));",
    )?;
    let taken = step.query_row("SELECT count(*) FROM taken", [], |row| row.get::<_, i64>(0))?;
    step.execute_batch("DROP TABLE taken")?;
    Ok(taken as u64)
}

/// A column as JSON: texts that hold JSON, as receipts do, are taken for that.
fn json(name: &str, value: Sql) -> serde_json::Value {
    match value {
        Sql::Null => serde_json::Value::Null,
        Sql::Integer(number) => number.into(),
        Sql::Real(number) => number.into(),
        Sql::Text(text) if name == "receipt" => {
            serde_json::from_str(&text).unwrap_or(serde_json::Value::Null)
        }
        Sql::Text(text) => text.into(),
        Sql::Blob(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{ended, facts, made, missed, output, plan, ran, trial, verdict};
    use super::*;
    use tempfile::TempDir;

    fn folder() -> TempDir {
        tempfile::tempdir().unwrap()
    }

    fn three() -> [Trial; 3] {
        [trial(9, Kind::Golden), trial(3, Kind::Null), trial(1, Kind::Injected)]
    }

    /// A store in which a campaign has begun.
    fn begun(path: &Path) -> Store {
        let mut store = Store::open(path).unwrap();
        store.begin(&facts(&plan(""), "0/1"), &three()).unwrap();
        store
    }

    fn masked() -> Verdict {
        verdict(Outcome::Masked)
    }

    fn finish(store: &mut Store, trial: &Trial, ran: &Ran) {
        store.finish(&plan(""), trial, 0, (ran, &masked())).unwrap();
    }

    fn numbers(store: &Store, finished: bool) -> Vec<u64> {
        let all = store.trials(&[]).unwrap().into_iter();
        all.filter(|run| run.verdict.is_some() == finished).map(|run| run.trial.number).collect()
    }

    fn fails<T>(result: Result<T, StoreError>, part: &str) {
        let error = result.err().unwrap().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn a_campaign_is_there_from_the_start_and_goes_on() {
        let folder = folder();
        let path = folder.path().join("a.db");
        let mut store = begun(&path);
        assert_eq!(numbers(&store, false), [9, 3, 1]);
        finish(&mut store, &three()[2], &ran("x"));
        drop(store);
        let store = begun(&path);
        assert_eq!((numbers(&store, true), numbers(&store, false)), (vec![1], vec![9, 3]));
        let mut all = store.trials(&[]).unwrap();
        assert_eq!(all.pop().unwrap().trial, three()[2]);
        assert_eq!(store.plan().unwrap().text, plan("").text);
        assert_eq!(store.counts().unwrap().len(), 3);
    }

    #[test]
    fn what_was_seen_comes_back() {
        let folder = folder();
        let mut store = begun(&folder.path().join("a.db"));
        let [golden, null, injected] = three();
        let seen = Ran { iterations: Some(17.0), stderr: output("e"), ..ran("x") };
        finish(&mut store, &golden, &seen);
        finish(&mut store, &null, &ended("x", Ending::Signal(11)));
        store.failure(1, "QEMU died").unwrap();
        let verdict = Verdict { tolerated: true, why: "differs".to_owned(), ..masked() };
        store.finish(&plan(""), &injected, 3, (&ran("y"), &verdict)).unwrap();
        let all = store.trials(&[Kind::Golden, Kind::Null]).unwrap();
        let runs: Vec<_> = all.iter().map(|run| run.ran.as_ref()).collect();
        let golden = runs[0].unwrap();
        assert_eq!((&golden.stdout, &golden.stderr), (&seen.stdout, &seen.stderr));
        assert_eq!((golden.time, golden.host_cpu_time), (seen.time, seen.host_cpu_time));
        assert_eq!((golden.iterations, golden.ending.clone()), (Some(17.0), Ending::Exited(0)));
        assert_eq!(runs[1].unwrap().ending, Ending::Signal(11));
        // Of the other kinds nobody asked.
        assert!(runs[2].is_none() && all[2].boot == Some(3));
        assert_eq!(all[2].verdict, Some(verdict));
        assert_eq!(store.failures().unwrap(), 1);
    }

    #[test]
    fn the_story_of_a_trial_has_it_all() {
        let folder = folder();
        let mut store = begun(&folder.path().join("a.db"));
        let injections = vec![made(0), missed(1, "gone")];
        finish(&mut store, &three()[2], &Ran { injections, ..ran("x\ny\n") });
        store.failure(1, "QEMU died").unwrap();
        let story = store.story(1).unwrap();
        assert_eq!(story["outcome"], "masked");
        assert_eq!((&story["landed"], &story["stdout_text"]), (&1.into(), &"x\ny\n".into()));
        let injections = &story["injections"];
        assert_eq!(injections[0]["receipt"]["after"], "01");
        let fate = (&injections[0]["fate"], &injections[0]["fate_by"]);
        assert_eq!(fate, (&"overwritten".into(), &"07".into()));
        assert_eq!((&injections[1]["landed"], &injections[1]["why"]), (&0.into(), &"gone".into()));
        assert_eq!(story["failures"][0]["why"], "QEMU died");
        fails(store.story(77), "has no trial 77");
    }

    #[test]
    fn each_output_is_kept_once() {
        let folder = folder();
        let mut store = begun(&folder.path().join("a.db"));
        three().iter().for_each(|trial| finish(&mut store, trial, &ran("x")));
        let count = "SELECT count(*) FROM outputs";
        let count = store.connection.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap();
        // "x", and the empty one of standard error.
        assert_eq!(count, 2);
    }

    #[test]
    fn metrics_that_are_no_numbers_come_back_as_they_were() {
        let folder = folder();
        let mut store = begun(&folder.path().join("a.db"));
        let metric = |name: &str| format!("[[metric]]\nname = '{name}'\nvariable = '{name}'\n");
        let plan = plan(&["a", "b", "c", "d"].map(metric).concat());
        let values = [Some(f64::NAN), Some(f64::NEG_INFINITY), None, Some(0.1 + 0.2)];
        let ran = Ran { variables: values.to_vec(), ..ran("x") };
        store.finish(&plan, &three()[2], 0, (&ran, &masked())).unwrap();
        let metrics = store.metrics(1).unwrap();
        assert!(metrics["a"].is_nan() && !metrics.contains_key("c"));
        assert_eq!((metrics["b"], metrics["d"]), (f64::NEG_INFINITY, 0.1 + 0.2));
        assert_eq!(metrics["cpu_time"], 0.005);
    }

    #[test]
    fn what_is_of_another_campaign_is_refused() {
        let folder = folder();
        let mut store = begun(&folder.path().join("a.db"));
        let other = plan("[limits]\ncpu = 6");
        fails(store.begin(&facts(&other, "0/1"), &three()), "is of another plan: it has ");
        fails(store.begin(&facts(&plan(""), "1/2"), &three()), "is of another shard: it has 0/1");
        let learnt = |value: &str| [("kernel".to_owned(), value.to_owned())].into();
        store.learn(&learnt("6.1")).unwrap();
        store.learn(&learnt("6.1")).unwrap();
        fails(store.learn(&learnt("7.2")), "is of another kernel: it has 6.1, and this is 7.2");
        assert_eq!(store.facts().unwrap()["kernel"], "6.1");
    }

    #[test]
    fn only_one_may_run_it_and_others_may_read_it() {
        let folder = folder();
        let path = folder.path().join("a.db");
        let store = begun(&path);
        fails(Store::open(&path), "is in use");
        assert_eq!(numbers(&Store::read(&path).unwrap(), false).len(), 3);
        drop(store);
        assert!(Store::open(&path).is_ok());
    }

    #[test]
    fn files_that_are_no_stores() {
        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        fails(Store::read(&path("none")), "there is no store");
        fails(Store::open(&path("none/a.db")), "No such file");
        let text = "All of this is text, and far longer than any file's first bytes. ".repeat(20);
        std::fs::write(path("text"), &text).unwrap();
        fails(Store::read(&path("text")), "is no store of a campaign");
        fails(Store::open(&path("text")), "is no store of a campaign");
        assert_eq!(std::fs::read_to_string(path("text")).unwrap(), text);
        let other = Connection::open(path("other")).unwrap();
        other.execute_batch("CREATE TABLE trials (number)").unwrap();
        fails(Store::open(&path("other")), "is no store of a campaign");
        std::fs::write(path("empty"), "").unwrap();
        fails(Store::read(&path("empty")), "is no store of a campaign");
        begun(&path("empty"));
        assert_eq!(numbers(&Store::read(&path("empty")).unwrap(), false).len(), 3);
        // As it is after a kill in the very first moment.
        drop(Store::open(&path("bare")).unwrap());
        fails(Store::read(&path("bare")).unwrap().plan(), "it has no plan");
        begun(&path("bare"));
    }

    #[test]
    fn a_newer_schema_is_left_alone() {
        let folder = folder();
        let path = folder.path().join("a.db");
        let store = begun(&path);
        store.connection.pragma_update(None, "user_version", 2).unwrap();
        drop(store);
        fails(Store::open(&path), "was written by a newer vmfi (schema 2, this one knows 1)");
        fails(Store::read(&path), "was written by a newer vmfi");
    }

    #[test]
    fn what_is_taken_over_twice_is_there_once() {
        let folder = folder();
        let mut whole = begun(&folder.path().join("a.db"));
        let mut part = begun(&folder.path().join("b.db"));
        let [golden, null, injected] = three();
        // The same output has another id there.
        finish(&mut whole, &null, &ran("y"));
        finish(&mut part, &injected, &ran("x"));
        finish(&mut part, &golden, &ran("y"));
        part.failure(1, "QEMU died").unwrap();
        assert_eq!(whole.take_over(&part).unwrap(), 2);
        assert_eq!(whole.take_over(&part).unwrap(), 0);
        assert_eq!((numbers(&whole, true), whole.failures().unwrap()), (vec![9, 3, 1], 1));
        assert_eq!(whole.story(1).unwrap()["stdout_text"], "x");
        assert_eq!(whole.story(9).unwrap()["stdout_text"], "y");
        assert_eq!(whole.story(1).unwrap()["injections"], part.story(1).unwrap()["injections"]);
        assert_eq!(whole.metrics(1).unwrap(), part.metrics(1).unwrap());
    }

    #[test]
    fn file_systems_of_networks_are_known() {
        // As statfs(2) has them: NFS, SMB2, Lustre, FUSE; and those of a machine's own disks and RAM.
        let network = [0x6969, 0xfe53_4d42, 0x0bd0_0bd0, 0x6573_5546];
        assert!(network.iter().all(|kind| NETWORK.contains(kind)));
        let own = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630];
        assert!(!own.iter().any(|kind| NETWORK.contains(kind)));
        let folder = folder();
        let path = folder.path().join("a.db");
        let mode = |store: &Store| {
            let mode = store.connection.pragma_query_value(None, "journal_mode", |row| row.get(0));
            mode.unwrap()
        };
        let journal: String = mode(&begun(&path));
        assert_eq!(journal, if on_network(&path) { "truncate" } else { "wal" });
    }
}
