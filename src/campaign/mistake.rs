//! What is wrong with a plan, and where: file, line, key.

use crate::symbols::nearest_names;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue, Error};

/// A plan that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Something else than a file, or a far too long one.
    #[error("{0} is not a plan: it must be a file of at most {limit} bytes", limit = super::plan::LONGEST)]
    NoPlan(PathBuf),
    /// It does not say what it should.
    #[error("{path}, line {line}: {what}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// What is wrong there, and with which key.
        what: String,
    },
}

/// What is wrong with a part of the text.
#[derive(Debug)]
pub struct Mistake {
    /// Where in the text, in bytes.
    pub span: Range<usize>,
    /// What.
    pub what: String,
}

impl Mistake {
    /// What is wrong in the table that begins at `span`.
    pub fn new(span: Range<usize>, what: impl Into<String>) -> Self {
        Self { span, what: what.into() }
    }

    /// The error for `text`, which stands in the file at `path`.
    pub fn of(self, text: &str, path: &Path) -> PlanError {
        // What is wrong with all of it has no place.
        let place = place(text, self.span.start).filter(|_| !self.span.is_empty());
        let what = place.map_or(self.what.clone(), |place| format!("{place}: {}", self.what));
        wrong(&self.span, what, text, path)
    }
}

/// What serde and the parser complain of, for `text` in the file at `path`.
pub fn complaint(error: &Error, text: &str, path: &Path) -> PlanError {
    let span = error.span().unwrap_or_default();
    let message = error.message();
    let place = place(text, span.start);
    let what = if message.starts_with("unknown field ") {
        unknown(&place.unwrap_or_default(), text.get(span.clone()), &known(message))
    } else if let Some(key) = message.strip_prefix("missing field ") {
        missing(key, place)
    } else if message == "duplicate key" {
        format!("'{}' is there twice", text.get(span.clone()).unwrap_or_default())
    } else {
        return Mistake::new(span, message).of(text, path);
    };
    wrong(&span, what, text, path)
}

fn wrong(span: &Range<usize>, what: String, text: &str, path: &Path) -> PlanError {
    let line = 1 + text.bytes().take(span.start).filter(|&byte| byte == b'\n').count();
    PlanError::Wrong { path: path.to_owned(), line, what }
}

/// The keys that are named where `message` complains of one that serde does not know: each stands
/// between backticks.
pub fn known(message: &str) -> Vec<String> {
    let (_, keys) = message.rsplit_once("expected ").unwrap_or_default();
    keys.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn unknown(place: &str, key: Option<&str>, known: &[String]) -> String {
    let key = key.unwrap_or_default().trim_matches(['"', '\'']);
    match nearest_names(key, known.iter().cloned()).first() {
        Some(nearest) => format!("unknown key {place}; did you mean '{nearest}'?"),
        None => format!("unknown key {place}; known: {}", known.join(", ")),
    }
}

/// What is missing at the top is found missing at the first byte, whatever stands there.
fn missing(key: &str, place: Option<String>) -> String {
    let table = place.filter(|place| place.starts_with('['));
    let within = table.map(|table| format!(" in {table}")).unwrap_or_default();
    format!("the key '{}' is missing{within}", key.trim_matches('`'))
}

/// The key, and its table, that the byte `at` belongs to; or the table, as it is headed.
fn place(text: &str, at: usize) -> Option<String> {
    let table = DeTable::parse(text).ok()?;
    in_table(table.get_ref(), at, "")
}

fn in_table(table: &DeTable, at: usize, within: &str) -> Option<String> {
    table.iter().find_map(|(name, value)| {
        let here = name.span().contains(&at) || value.span().contains(&at);
        in_value(name.get_ref(), value.get_ref(), at)
            .or_else(|| here.then(|| head(name.get_ref(), value.get_ref(), within)))
    })
}

/// The keys of a table with a header lie outside of what counts as the table's place.
fn in_value(name: &str, value: &DeValue, at: usize) -> Option<String> {
    match value {
        DeValue::Table(table) => in_table(table, at, &format!(" in [{name}]")),
        DeValue::Array(items) => items.iter().find_map(|item| {
            let DeValue::Table(table) = item.get_ref() else { return None };
            let here = item.span().contains(&at).then(|| format!("[[{name}]]"));
            in_table(table, at, &format!(" in [[{name}]]")).or(here)
        }),
        _ => None,
    }
}

fn head(name: &str, value: &DeValue, within: &str) -> String {
    match value {
        DeValue::Table(_) => format!("[{name}]"),
        _ => format!("'{name}'{within}"),
    }
}
