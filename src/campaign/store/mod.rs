//! The store: one SQLite file with all trials of a campaign, from before the first is run.
//!
//! A finished trial is one transaction, so whoever is killed loses the trials under way and no more.

mod file;
mod reading;
mod records;
mod writing;

pub use reading::Stored;
pub use records::{Injection, Record, Samples, Written};

use super::expand::{Draw, Trial};
use super::plan::Plan;
use file::{Lock, on_network};
use rusqlite::{Connection, OpenFlags, Params, Row, Transaction, params};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Each brings a store of the version before to the next; a new store has them all.
const MIGRATIONS: [&str; 2] = [include_str!("schema.sql"), include_str!("samples.sql")];
/// Tells our files from other programs' (`PRAGMA application_id`): "vmfi".
const APPLICATION: i64 = 0x766d_6669;
/// How long another process's transaction is waited for.
const BUSY: Duration = Duration::from_secs(30);

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
    /// An earlier version of vmfi wrote it, and it cannot be changed.
    #[error(
        "{0} was written by an older vmfi, and cannot be brought up to date there: copy it to where it can be written"
    )]
    Older(PathBuf),
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
        let mut store = match store {
            Ok(store) => store,
            // As others may read what they may not write.
            Err(_) => Self::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, None)?,
        };
        match store.version()? {
            0 => return Err(StoreError::NoStore(path.to_owned())),
            _ => store.migrate().map_err(|_| StoreError::Older(path.to_owned()))?,
        }
        Ok(store)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::curve::Point;
    use crate::campaign::expand::Kind;
    use crate::campaign::outcome::{Outcome, Verdict};
    use crate::campaign::ran::{Ending, Ran};
    use crate::campaign::samples::{
        counting, ended, facts, made, missed, output, plan, ran, trial, verdict,
    };
    use serde_json::Value as Json;
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
        store.connection.pragma_update(None, "user_version", 3).unwrap();
        drop(store);
        fails(Store::open(&path), "was written by a newer vmfi (schema 3, this one knows 2)");
        fails(Store::read(&path), "was written by a newer vmfi");
    }

    #[test]
    fn an_older_schema_is_brought_up_to_date() {
        let folder = folder();
        let path = folder.path().join("a.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.pragma_update(None, "application_id", APPLICATION).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        assert_eq!(Store::read(&path).unwrap().version().unwrap(), MIGRATIONS.len());
        begun(&path);
        assert_eq!(numbers(&Store::read(&path).unwrap(), false).len(), 3);
    }

    #[test]
    fn curves_are_kept_point_by_point() {
        let folder = folder();
        let mut store = begun(&folder.path().join("a.db"));
        let plan = counting("[[curve]]\nvariable = 'normr'");
        let point = |iteration, value| Point {
            iteration,
            at: Duration::from_millis(2),
            values: vec![value],
        };
        let points = vec![point(0, Some(3.5)), point(1, Some(f64::NAN)), point(-7, None)];
        let each = Some(Duration::from_millis(9));
        let ran = Ran { points, iteration_time: each, ..ran("x") };
        store.finish(&plan, &three()[2], 0, (&ran, &masked())).unwrap();
        let story = store.story(1).unwrap();
        let samples = story["samples"].as_array().unwrap();
        let values: Vec<_> = samples.iter().map(|own| (&own["iteration"], &own["value"])).collect();
        assert_eq!(
            values,
            [(&(-7).into(), &Json::Null), (&0.into(), &3.5.into()), (&1.into(), &Json::Null)]
        );
        assert_eq!(
            (&samples[1]["name"], &samples[1]["time_ns"]),
            (&"normr".into(), &2_000_000.into())
        );
        assert_eq!(story["iteration_ns"], 9_000_000);
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
    fn the_journal_fits_the_file_system() {
        let folder = folder();
        let path = folder.path().join("a.db");
        let store = begun(&path);
        let mode = store.connection.pragma_query_value(None, "journal_mode", |row| row.get(0));
        let mode: String = mode.unwrap();
        assert_eq!(mode, if on_network(&path) { "truncate" } else { "wal" });
    }
}
