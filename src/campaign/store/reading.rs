//! What is read of a store.

use super::{Store, StoreError};
use crate::campaign::expand::{Draw, Kind, Trial};
use crate::campaign::outcome::{Outcome, Verdict};
use crate::campaign::plan::Source;
use crate::campaign::ran::{Ending, Overhead, Ran};
use crate::victim::Output;
use rusqlite::Row;
use rusqlite::types::Value as Sql;
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::time::Duration;

/// All of a trial and of what it printed, of which the end is kept.
const STORY: &str = include_str!("story.sql");

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
            let kind = Kind::named(&kind).ok_or_else(|| self.damaged(format!("kind '{kind}'")))?;
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

    /// What was seen of the finished run `number`, as far as judging needs it: neither the receipts
    /// of its injections nor the points of its curves.
    fn ran(&self, number: u64) -> Result<Ran, StoreError> {
        let plan = self.plan()?;
        let metrics = self.metrics(number)?;
        let variables = plan.metrics.iter().map(|metric| match metric.source {
            Source::Variable(_) => metrics.get(&metric.name).copied(),
            Source::Output(_) => None,
        });
        let variables = variables.collect();
        let sql = "SELECT exit_status, signal, time_ns, cpu_time_ns, host_cpu_time_ns, iterations, \
                   stdout, stderr, why, restore_ns, prepare_ns, read_ns, iteration_ns FROM trials WHERE number = ?1";
        let row = self.connection.query_row(sql, [number as i64], |row| {
            let ns =
                |index| row.get::<_, Option<i64>>(index).map(|ns| nanoseconds(ns.unwrap_or(0)));
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
                iteration_time: row.get::<_, Option<i64>>(12)?.map(nanoseconds),
                points: Vec::new(),
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

    /// How many came to nothing.
    pub fn failures(&self) -> Result<u64, StoreError> {
        self.count("SELECT count(*) FROM failures")
    }

    /// How many trials with faults there are, finished or not.
    pub fn planned(&self) -> Result<u64, StoreError> {
        self.count("SELECT count(*) FROM trials WHERE kind = 'injected'")
    }

    fn count(&self, sql: &str) -> Result<u64, StoreError> {
        let count = self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        Ok(count.map_err(|source| self.failed(source))? as u64)
    }

    /// Everything that is known of a trial: column by column, as JSON.
    pub fn story(&self, number: u64) -> Result<Json, StoreError> {
        let mut rows = self.json(STORY, number)?;
        let missing = || StoreError::NoTrial { path: self.path.clone(), number };
        let mut story = rows.pop().ok_or_else(missing)?;
        for (name, sql) in [
            ("injections", "SELECT * FROM injections WHERE trial = ?1 ORDER BY number"),
            ("metrics", "SELECT * FROM metrics WHERE trial = ?1"),
            ("failures", "SELECT * FROM failures WHERE trial = ?1"),
            ("samples", "SELECT * FROM samples WHERE trial = ?1"),
        ] {
            let rows = self.json(sql, number)?.into_iter().map(Json::Object);
            story.insert(name.to_owned(), rows.collect());
        }
        Ok(story.into())
    }

    fn json(&self, sql: &str, number: u64) -> Result<Vec<Map<String, Json>>, StoreError> {
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
}

fn nanoseconds(ns: i64) -> Duration {
    Duration::from_nanos(ns as u64)
}

/// A column as JSON: texts that hold JSON, as receipts do, are taken for that.
fn json(name: &str, value: Sql) -> Json {
    match value {
        Sql::Null => Json::Null,
        Sql::Integer(number) => number.into(),
        Sql::Real(number) => number.into(),
        Sql::Text(text) if name == "receipt" => serde_json::from_str(&text).unwrap_or(Json::Null),
        Sql::Text(text) => text.into(),
        Sql::Blob(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
    }
}
