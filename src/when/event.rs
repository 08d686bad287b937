//! What a trigger waits for, and what there is to know of it once it has fired.

use super::{Condition, ConditionError};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use serde_json::{Map, Value as Json};
use std::str::FromStr;

/// What is waited for.
#[derive(Clone, Debug)]
pub enum Event {
    /// That this holds.
    Holds(Condition),
    /// That this target's value is another one.
    Changes(String),
}

impl Event {
    /// The targets that are looked at.
    pub fn targets(&self) -> &[String] {
        match self {
            Self::Holds(condition) => condition.targets(),
            Self::Changes(target) => std::slice::from_ref(target),
        }
    }
}

/// What stands behind a target whose change is waited for.
const CHANGES: &str = " changes";

impl FromStr for Event {
    type Err = ConditionError;

    /// As it is shown.
    fn from_str(text: &str) -> Result<Self, ConditionError> {
        match text.strip_suffix(CHANGES) {
            Some(target) => Ok(Self::Changes(target.to_owned())),
            None => Condition::parse(text).map(Self::Holds),
        }
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Holds(condition) => write!(f, "{condition}"),
            Self::Changes(target) => write!(f, "{target}{CHANGES}"),
        }
    }
}

/// What fired.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fired {
    /// What was waited for, as it was typed.
    pub when: String,
    /// The values that were seen then.
    pub values: Map<String, Json>,
    /// Those just after the write; none where nothing was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values_after: Option<Map<String, Json>>,
    /// No more than this lies between the look that fired and the one before, in ns: so long ago it
    /// may have become so. None where it was so from the first look on.
    pub gap_ns: Option<u64>,
    /// From the look that fired to the write, in ns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_ns: Option<u64>,
    /// How long was waited, in ns.
    pub waited_ns: u64,
    /// How many times was looked.
    pub looks: u64,
    /// When that look was over, on the host's monotonic clock.
    #[serde(skip)]
    pub at_ns: u64,
}

impl Fired {
    /// The same, where the write was made at `written_ns` on the host's monotonic clock.
    pub fn written(&self, values_after: &Map<String, Json>, written_ns: u64) -> Self {
        let written_ns = Some(written_ns.saturating_sub(self.at_ns));
        Self { values_after: Some(values_after.clone()), written_ns, ..self.clone() }
    }
}

/// The host's monotonic clock, in ns.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
