//! A row for each run, or for each injection, for other programs: comma-separated values, as RFC 4180 has
//! them. docs/data.md explains every column.
//!
//! A cell is empty where there is nothing to tell. Times are in seconds. Bytes are written as SQL has them,
//! `x'0600'`: bare digits would be taken for numbers.

use super::Findings;
use super::breakdown::target_name;
use super::figure::exact;
use crate::campaign::Kind;
use crate::campaign::ran::OVERWRITTEN;
use crate::campaign::store::{Injection, Record, Written};
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

/// What there is a row of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rows {
    /// Each finished run: trials, null trials, golden runs
    Trials,
    /// Each injection of these, made or not
    Injections,
}

/// A run, and one of its injections where that is what the row is of.
struct Row<'f> {
    findings: &'f Findings,
    record: &'f Record,
    injection: Option<&'f Injection>,
}

/// A column: its name, and what it has for a row.
type Column = (&'static str, fn(&Row) -> String);

/// Of a run.
const OF_RUN: [Column; 19] = [
    ("store", |row| row.findings.path.display().to_string()),
    ("trial", |row| row.record.number.to_string()),
    ("kind", |row| kind(row.record.kind).to_owned()),
    ("outcome", |row| row.record.outcome.name().to_owned()),
    ("failed", |row| row.record.outcome.is_failure().to_string()),
    ("why", |row| row.record.why.clone()),
    ("tolerated", |row| row.record.tolerated.to_string()),
    ("seed", |row| row.record.seed.to_string()),
    ("boot", |row| text(row.record.boot)),
    ("exit_status", |row| text(row.record.exit_status)),
    ("signal", |row| text(row.record.signal)),
    ("injections", |row| row.record.injections.len().to_string()),
    ("landed", |row| row.record.landed().to_string()),
    ("time_s", |row| seconds(Some(row.record.time))),
    ("cpu_time_s", |row| seconds(Some(row.record.cpu_time))),
    ("host_cpu_time_s", |row| seconds(Some(row.record.host_cpu_time))),
    ("iteration_time_s", |row| seconds(row.record.iteration_time)),
    ("host", |row| row.record.host.clone()),
    ("finished", |row| row.record.finished.clone()),
];

/// What a row of an injection has of its run.
const RUN_OF_INJECTION: [&str; 5] = ["store", "trial", "kind", "outcome", "failed"];

/// What a row of a run has of its injection, if it has just one.
const ONLY_INJECTION: [&str; 10] = [
    "target",
    "fault",
    "at",
    "injected_s",
    "iteration",
    "symbol",
    "before",
    "after",
    "bit",
    "fate",
];

/// Of an injection.
const OF_INJECTION: [Column; 26] = [
    ("injection", |row| text(row.injection.map(|own| own.number))),
    ("target", |row| text(row.injection.map(|own| target_name(row.findings, own.target)))),
    ("fault", |row| text(row.injection.map(|own| own.fault))),
    ("at", |row| text(row.injection.map(|own| exact(own.at)))),
    ("made", |row| text(row.injection.map(|own| own.written.is_some()))),
    ("not_made_why", |row| text(row.injection.and_then(|own| own.why.clone()))),
    ("injected_s", |row| seconds(row.injection.and_then(|own| own.time))),
    ("injected_cpu_s", |row| seconds(row.injection.and_then(|own| own.cpu_time))),
    ("iteration", |row| text(row.injection.and_then(|own| own.iteration).map(exact))),
    ("model", |row| written(row, |own| own.fault.clone())),
    ("symbol", |row| written(row, |own| own.symbol.clone())),
    ("offset", |row| written(row, |own| own.offset)),
    ("gva", |row| written(row, |own| own.gva.clone())),
    ("gpa", |row| written(row, |own| own.gpa.clone())),
    ("size", |row| written(row, |own| own.size)),
    ("before", |row| written(row, |own| bytes(&own.before))),
    ("after", |row| written(row, |own| bytes(&own.after))),
    ("bit", |row| text(row.injection.and_then(|own| own.written.as_ref()?.bit()))),
    ("overwritten", |row| written(row, |own| own.overwritten)),
    ("atomic", |row| written(row, |own| own.atomic)),
    ("region", |row| written(row, |own| own.region.clone().unwrap_or_default())),
    ("region_offset", |row| written(row, |own| text(own.region_offset))),
    ("sampled_from", |row| written(row, |own| text(own.sampled_from))),
    ("written", |row| written(row, |own| own.time.clone())),
    ("fate", |row| text(row.injection.and_then(|own| own.fate.clone()))),
    ("fate_by", |row| text(row.injection.and_then(fate_by))),
];

/// The table of `rows` of all stores, with a line of names first.
pub fn table(rows: Rows, all: &[&Findings]) -> Result<String, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let names = metric_names(rows, all);
    let columns = columns(rows);
    let metrics = names.iter().map(|name| format!("metric_{name}"));
    writer.write_record(columns.iter().map(|(name, _)| (*name).to_owned()).chain(metrics))?;
    for findings in all {
        for row in findings.records.iter().flat_map(|record| rows_of(rows, findings, record)) {
            let own = columns.iter().map(|(_, cell)| cell(&row));
            let metrics = names.iter().map(|name| metric(row.record, name));
            writer.write_record(own.chain(metrics))?;
        }
    }
    let whole = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8_lossy(&whole).into_owned())
}

/// What a kind is called: a bare `null` is a missing value for pandas.
fn kind(kind: Kind) -> &'static str {
    if kind == Kind::Null { "null_trial" } else { kind.name() }
}

/// The columns of a table, but for the metrics.
fn columns(rows: Rows) -> Vec<Column> {
    let named = |columns: &[Column], names: &[&str]| {
        let wanted = columns.iter().filter(|(name, _)| names.contains(name));
        wanted.copied().collect::<Vec<_>>()
    };
    match rows {
        Rows::Trials => [OF_RUN.to_vec(), named(&OF_INJECTION, &ONLY_INJECTION)].concat(),
        Rows::Injections => [named(&OF_RUN, &RUN_OF_INJECTION), OF_INJECTION.to_vec()].concat(),
    }
}

/// The metrics that have columns: all that a run of any store has, in the table of runs.
fn metric_names(rows: Rows, all: &[&Findings]) -> BTreeSet<String> {
    let records = all.iter().flat_map(|findings| &findings.records);
    let names = records.flat_map(|record| record.metrics.keys().cloned());
    if rows == Rows::Trials { names.collect() } else { BTreeSet::new() }
}

fn rows_of<'f>(rows: Rows, findings: &'f Findings, record: &'f Record) -> Vec<Row<'f>> {
    let row = |injection| Row { findings, record, injection };
    match (rows, &*record.injections) {
        (Rows::Trials, [only]) => vec![row(Some(only))],
        (Rows::Trials, _) => vec![row(None)],
        (Rows::Injections, all) => all.iter().map(|own| row(Some(own))).collect(),
    }
}

/// The value of a metric, as Python and R read it.
fn metric(record: &Record, name: &str) -> String {
    match record.metrics.get(name) {
        Some(value) if value.is_infinite() => {
            (if *value > 0.0 { "Inf" } else { "-Inf" }).to_owned()
        }
        value => text(value.copied().map(exact)),
    }
}

fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn seconds(time: Option<Duration>) -> String {
    text(time.map(|time| exact(time.as_secs_f64())))
}

fn bytes(hex: impl Display) -> String {
    format!("x'{hex}'")
}

/// What was there instead is bytes; why that could not be seen is words.
fn fate_by(injection: &Injection) -> Option<String> {
    let by = injection.fate_by.as_ref()?;
    let overwritten = injection.fate.as_deref() == Some(OVERWRITTEN);
    Some(if overwritten { bytes(by) } else { by.clone() })
}

/// What `cell` has of what was written, if it was.
fn written<T: ToString>(row: &Row, cell: impl Fn(&Written) -> T) -> String {
    text(row.injection.and_then(|own| own.written.as_ref()).map(cell))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{findings, injection, runs};
    use super::*;
    use crate::campaign::outcome::Outcome as O;

    /// The cells of each row by the names of their columns.
    fn read(text: &str) -> Vec<std::collections::BTreeMap<String, String>> {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        reader.deserialize().collect::<Result<_, _>>().unwrap()
    }

    fn made_up() -> Findings {
        let mut records = runs(Kind::Injected, &[O::Sdc, O::NotInjected, O::Crash]);
        records[0].why = "it says \"no\",\nand more".to_owned();
        records[0].metrics.insert("r".to_owned(), f64::NEG_INFINITY);
        records[1].metrics.insert("r".to_owned(), f64::NAN);
        records[2].injections.push(injection(true));
        let first = &mut records[2].injections[0];
        (first.fate, first.fate_by) = (Some("overwritten".to_owned()), Some("07".to_owned()));
        findings("", records)
    }

    #[test]
    fn a_row_for_each_run() {
        let findings = made_up();
        let rows = read(&table(Rows::Trials, &[&findings, &findings]).unwrap());
        assert_eq!(rows.len(), 6);
        let (first, missed, several) = (&rows[0], &rows[1], &rows[2]);
        assert_eq!(first["why"], "it says \"no\",\nand more");
        let cells =
            ["outcome", "failed", "time_s", "bit", "before", "metric_r", "metric_iterations"];
        let told = cells.map(|name| &*first[name]);
        assert_eq!(told, ["sdc", "true", "0.01", "1", "x'10'", "-Inf", "4"]);
        assert_eq!((&*missed["metric_r"], &*missed["target"], &*missed["bit"]), ("NaN", "x", ""));
        // Of several injections a run has none.
        let told = ["injections", "landed", "target", "metric_r"].map(|name| &*several[name]);
        assert_eq!(told, ["2", "2", "", ""]);
    }

    #[test]
    fn a_row_for_each_injection() {
        let rows = read(&table(Rows::Injections, &[&made_up()]).unwrap());
        let trials: Vec<_> = rows.iter().map(|row| &*row["trial"]).collect();
        assert_eq!(trials, ["1", "2", "3", "3"]);
        let told = ["made", "after", "gva", "size", "atomic", "fate"].map(|name| &*rows[0][name]);
        assert_eq!(told, ["true", "x'12'", "0x401000", "1", "true", "latent"]);
        assert_eq!((&*rows[1]["made"], &*rows[1]["after"]), ("false", ""));
        // Bare digits would be taken for a number.
        assert_eq!((&*rows[2]["fate_by"], &*rows[0]["fate_by"]), ("x'07'", ""));
        assert!(!rows[0].contains_key("metric_cpu_time"));
    }

    #[test]
    fn no_kind_is_a_missing_value() {
        let records = runs(Kind::Null, &[O::Masked]);
        let rows = read(&table(Rows::Trials, &[&findings("", records)]).unwrap());
        assert_eq!(rows[0]["kind"], "null_trial");
    }

    #[test]
    fn every_column_is_explained() {
        let page = include_str!("../../docs/data.md");
        for (name, _) in OF_RUN.iter().chain(&OF_INJECTION) {
            assert!(page.contains(&format!("| `{name}` |")), "docs/data.md has no {name}");
        }
    }
}
