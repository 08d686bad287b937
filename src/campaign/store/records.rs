//! Finished runs as reports want them: all of a campaign in a few queries.

use super::{Store, StoreError};
use crate::campaign::expand::Kind;
use crate::campaign::outcome::Outcome;
use crate::inject::Hex;
use rusqlite::Row;
use rusqlite::types::FromSql;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

const RUNS: &str = include_str!("runs.sql");
const INJECTIONS: &str = include_str!("injections.sql");

/// A finished run, without what it printed.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its number.
    pub number: u64,
    /// Its kind.
    pub kind: Kind,
    /// What it came to.
    pub outcome: Outcome,
    /// What that was seen by.
    pub why: String,
    /// Whether it is masked in spite of a difference, which the plan tolerates.
    pub tolerated: bool,
    /// What its bits and places were drawn from.
    pub seed: u64,
    /// Which start of the guest it was made from.
    pub boot: Option<u64>,
    /// The status that the program ended with,
    pub exit_status: Option<u8>,
    /// or the signal.
    pub signal: Option<u8>,
    /// From the program's start to its end, on the host's clock.
    pub time: Duration,
    /// CPU time of the program.
    pub cpu_time: Duration,
    /// CPU time of QEMU meanwhile.
    pub host_cpu_time: Duration,
    /// How long an iteration took on average, where that was looked at.
    pub iteration_time: Option<Duration>,
    /// The machine that it was made on.
    pub host: String,
    /// When it was finished, in RFC 3339.
    pub finished: String,
    /// Its injections, made or not, by their numbers.
    pub injections: Vec<Injection>,
    /// Its metrics by name, as far as they are numbers, which may be infinite or none.
    pub metrics: BTreeMap<String, f64>,
}

/// An injection of a finished run.
#[derive(Clone, Debug)]
pub struct Injection {
    /// Its number in its trial, from 0 on.
    pub number: u64,
    /// Which of the plan's targets, from 0 on.
    pub target: usize,
    /// Which of the plan's faults, from 0 on.
    pub fault: usize,
    /// The moment that was drawn, from 0 to below 1 of the plan's range.
    pub at: f64,
    /// What was written, or of a null trial would have been; none where it was not made.
    pub written: Option<Written>,
    /// Why it was not made.
    pub why: Option<String>,
    /// When it was made, from the program's start on.
    pub time: Option<Duration>,
    /// The CPU time that the program had used then.
    pub cpu_time: Option<Duration>,
    /// What the program's counter was then.
    pub iteration: Option<f64>,
    /// What had become of it at the end,
    pub fate: Option<String>,
    /// and what was there instead, or why that could not be seen.
    pub fate_by: Option<String>,
}

/// What reports take of a receipt.
#[derive(Clone, Debug, Deserialize)]
pub struct Written {
    /// The target's name.
    pub symbol: String,
    /// Bytes from there on.
    pub offset: i64,
    /// Where that is in the victim, `0x...`.
    pub gva: String,
    /// Where that is in guest-physical memory, `0x...`.
    pub gpa: String,
    /// Bytes.
    pub size: u64,
    /// The fault model.
    pub fault: String,
    /// The bytes that were replaced, in memory order.
    pub before: Hex,
    /// The bytes that were written.
    pub after: Hex,
    /// Whether the victim wrote in between.
    pub overwritten: bool,
    /// Whether all bytes changed at one instant.
    pub atomic: bool,
    /// What the place was drawn from, if it was.
    pub region: Option<String>,
    /// How many bytes behind the start of that it is.
    pub region_offset: Option<u64>,
    /// How many bytes that had in RAM.
    pub sampled_from: Option<u64>,
    /// When, in RFC 3339.
    pub time: String,
}

impl Record {
    /// Its only injection, if it has one and that was made: of several none can be told to have had an
    /// effect.
    pub fn only(&self) -> Option<(&Injection, &Written)> {
        match &*self.injections {
            [one] => one.written.as_ref().map(|written| (one, written)),
            _ => None,
        }
    }

    /// How many of its injections were made.
    pub fn landed(&self) -> usize {
        self.injections.iter().filter(|own| own.written.is_some()).count()
    }
}

impl Written {
    /// The only bit that changed, counted from the value's lowest: as many bytes as there are in memory
    /// order, the lowest first.
    pub fn bit(&self) -> Option<u64> {
        let pairs = self.before.0.iter().zip(&self.after.0);
        let changed: Vec<_> = pairs.map(|(before, after)| before ^ after).collect();
        let all: u32 = changed.iter().map(|byte| byte.count_ones()).sum();
        let byte = changed.iter().position(|byte| *byte != 0).filter(|_| all == 1)?;
        Some(8 * byte as u64 + u64::from(changed[byte].trailing_zeros()))
    }
}

/// What was seen of a curve in one run: its iterations, ascending, each with the value, if that was one.
pub type Samples = Vec<(i64, Option<f64>)>;

impl Store {
    /// Every finished run: by number, so that trials with faults come first.
    pub fn records(&self) -> Result<Vec<Record>, StoreError> {
        let mut injections = self.grouped(INJECTIONS, injection)?;
        let metric = |row: &Row| Ok((row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?));
        let mut metrics = self.grouped("SELECT trial, name, text FROM metrics", metric)?;
        let rows = self.all(RUNS, [], |row| Ok((run(row)?, row.get(1)?, row.get(2)?)))?;
        let whole = |(run, kind, outcome): (Record, String, String)| {
            let known = Kind::named(&kind).zip(Outcome::named(&outcome));
            let unknown = || self.damaged(format!("a run is '{kind}', and came to '{outcome}'"));
            let (kind, outcome) = known.ok_or_else(unknown)?;
            let injections = injections.remove(&run.number).unwrap_or_default();
            let texts = metrics.remove(&run.number).unwrap_or_default();
            let values =
                texts.into_iter().filter_map(|(name, text)| Some((name, text?.parse().ok()?)));
            Ok(Record { kind, outcome, injections, metrics: values.collect(), ..run })
        };
        rows.into_iter().map(whole).collect()
    }

    /// What was seen of the curve `name`, by run.
    pub fn samples(&self, name: &str) -> Result<BTreeMap<u64, Samples>, StoreError> {
        let sql = "SELECT trial, iteration, value FROM samples WHERE name = ?1 ORDER BY iteration";
        let mut all: BTreeMap<u64, Samples> = BTreeMap::new();
        let rows = self.all(sql, [name], |row| {
            Ok((row.get::<_, i64>(0)? as u64, (row.get(1)?, row.get(2)?)))
        })?;
        rows.into_iter().for_each(|(trial, point)| all.entry(trial).or_default().push(point));
        Ok(all)
    }

    /// What `each` makes of the rows of `sql`, by the run in their first column.
    fn grouped<T>(
        &self,
        sql: &str,
        mut each: impl FnMut(&Row) -> rusqlite::Result<T>,
    ) -> Result<BTreeMap<u64, Vec<T>>, StoreError> {
        let mut all: BTreeMap<u64, Vec<T>> = BTreeMap::new();
        let rows = self.all(sql, [], |row| Ok((row.get::<_, i64>(0)? as u64, each(row)?)))?;
        rows.into_iter().for_each(|(run, own)| all.entry(run).or_default().push(own));
        Ok(all)
    }
}

/// A row of `runs.sql`; what it is of, and what it came to, are not looked at.
fn run(row: &Row) -> rusqlite::Result<Record> {
    Ok(Record {
        number: row.get::<_, i64>(0)? as u64,
        kind: Kind::Injected,
        outcome: Outcome::Masked,
        why: or_default(row, 3)?,
        tolerated: or_default(row, 4)?,
        seed: row.get::<_, i64>(5)? as u64,
        boot: row.get::<_, Option<i64>>(6)?.map(|boot| boot as u64),
        exit_status: row.get(7)?,
        signal: row.get(8)?,
        time: time(row, 9)?.unwrap_or_default(),
        cpu_time: time(row, 10)?.unwrap_or_default(),
        host_cpu_time: time(row, 11)?.unwrap_or_default(),
        iteration_time: time(row, 12)?,
        host: or_default(row, 13)?,
        finished: or_default(row, 14)?,
        injections: Vec::new(),
        metrics: BTreeMap::new(),
    })
}

/// A row of `injections.sql`.
fn injection(row: &Row) -> rusqlite::Result<Injection> {
    let receipt: Option<String> = row.get(6)?;
    Ok(Injection {
        number: row.get::<_, i64>(1)? as u64,
        target: row.get::<_, i64>(2)? as usize,
        fault: row.get::<_, i64>(3)? as usize,
        at: row.get(4)?,
        why: row.get(5)?,
        // One that cannot be read is as good as none.
        written: receipt.and_then(|text| serde_json::from_str(&text).ok()),
        time: time(row, 7)?,
        cpu_time: time(row, 8)?,
        iteration: row.get(9)?,
        fate: row.get(10)?,
        fate_by: row.get(11)?,
    })
}

fn time(row: &Row, index: usize) -> rusqlite::Result<Option<Duration>> {
    let ns: Option<i64> = row.get(index)?;
    Ok(ns.and_then(|ns| u64::try_from(ns).ok()).map(Duration::from_nanos))
}

fn or_default<T: FromSql + Default>(row: &Row, index: usize) -> rusqlite::Result<T> {
    Ok(row.get::<_, Option<T>>(index)?.unwrap_or_default())
}
