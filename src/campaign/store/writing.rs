//! What is written to a store once it has begun.

use super::{Store, StoreError};
use crate::campaign::curve::Point;
use crate::campaign::expand::{Draw, Trial};
use crate::campaign::golden::value;
use crate::campaign::outcome::Verdict;
use crate::campaign::plan::{OWN_METRICS, Plan};
use crate::campaign::ran::{Ending, LastLook, Made, Ran};
use crate::victim::Output;
use rusqlite::{OptionalExtension, Transaction, params};
use std::time::Duration;

/// What came of a run.
const FINISH: &str = include_str!("finish.sql");
/// Takes over what the attached store `other` has finished and this one has not.
const MERGE: &str = include_str!("merge.sql");

impl Store {
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
                FINISH,
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
                    ran.iteration_time.map(ns),
                ],
            )?;
            for made in &ran.injections {
                add_made(step, plan, trial, made)?;
            }
            add_metrics(step, plan, number, ran)?;
            add_samples(step, plan, number, &ran.points)
        })
    }

    /// Writes down that a run came to nothing.
    pub fn failure(&mut self, number: u64, why: &str) -> Result<(), StoreError> {
        let now = jiff::Timestamp::now().to_string();
        let sql = "INSERT INTO failures VALUES (?1, ?2, ?3)";
        self.step(|step| step.execute(sql, params![number as i64, now, why]).map(|_| ()))
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
}

fn ns(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
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

fn add_samples(
    step: &Transaction,
    plan: &Plan,
    number: i64,
    points: &[Point],
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO samples VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut add = step.prepare_cached(sql)?;
    for point in points {
        for (curve, value) in plan.curves.iter().zip(&point.values) {
            add.execute(params![number, curve.name, point.iteration, ns(point.at), value])?;
        }
    }
    Ok(())
}

/// Copies what the attached store `other` has finished and this one has not; how many runs.
fn merge(step: &Transaction) -> rusqlite::Result<u64> {
    step.execute_batch(MERGE)?;
    let taken = step.query_row("SELECT count(*) FROM taken", [], |row| row.get::<_, i64>(0))?;
    step.execute_batch("DROP TABLE taken")?;
    Ok(taken as u64)
}
