//! What came of one run of the program: what was seen of it, before anybody judges.

use super::curve::Point;
use crate::inject::{Hex, Receipt};
use crate::victim::Output;
use serde::Serialize;
use std::time::Duration;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The program ended by itself, with this status.
    Exited(u8),
    /// A signal ended it.
    Signal(u8),
    /// It went on for too long.
    Hung(Hang),
    /// The guest's kernel gave up.
    GuestCrash(String),
}

/// What a program does that does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// It computes.
    Spinning,
    /// It waits for something.
    Blocked,
}

impl Ending {
    /// That of a wait status, as wait4(2) gives it.
    pub fn of_status(status: i32) -> Self {
        match (status & 0x7f) as u8 {
            0 => Self::Exited((status >> 8 & 0xff) as u8),
            signal => Self::Signal(signal),
        }
    }
}

/// What was seen of an injection.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its number in the trial.
    pub number: u64,
    /// What was written where, or would have been.
    pub receipt: Option<Receipt>,
    /// Why nothing was written.
    pub why: Option<String>,
    /// How long after the start, on the host's clock.
    pub at: Option<Duration>,
    /// How much CPU time the victim had used.
    pub cpu_time: Option<Duration>,
    /// What the program's counter was.
    pub iteration: Option<f64>,
    /// What had become of it at the end.
    pub fate: Option<LastLook>,
}

/// What the fate of a fault is called that is not there any more.
pub const OVERWRITTEN: &str = "overwritten";

/// What had become of a fault when it was last looked at: at the end of the program, before its memory
/// was given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LastLook {
    /// What was written was still there.
    Latent,
    /// Something else was there.
    Overwritten {
        /// This.
        by: Hex,
    },
    /// The place could not be looked at.
    Unknown {
        /// Why.
        why: String,
    },
}

impl LastLook {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Latent => "latent",
            Self::Overwritten { .. } => OVERWRITTEN,
            Self::Unknown { .. } => "unknown",
        }
    }
}

/// Where the time of a run went that is not the program's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overhead {
    /// Until the machine was there and ran.
    pub restore: Duration,
    /// Until the program had been found and its places looked up.
    pub prepare: Duration,
    /// From its end until all was read.
    pub read: Duration,
}

/// What came of one run.
#[derive(Clone, Debug)]
pub struct Ran {
    /// How it ended.
    pub ending: Ending,
    /// What it printed.
    pub stdout: Output,
    /// The same on standard error.
    pub stderr: Output,
    /// From its start to its end, on the host's clock.
    pub time: Duration,
    /// CPU time that the victim has used.
    pub cpu_time: Duration,
    /// CPU time that QEMU has used meanwhile.
    pub host_cpu_time: Duration,
    /// Where the counter ended.
    pub iterations: Option<f64>,
    /// How long an iteration took on average, where that was looked at.
    pub iteration_time: Option<Duration>,
    /// The variables of the plan's curves in each iteration.
    pub points: Vec<Point>,
    /// The variables of the plan's metrics at the end, in their order; none for those that are had
    /// from the output, and where one could not be read.
    pub variables: Vec<Option<f64>>,
    /// The injections.
    pub injections: Vec<Made>,
    /// Where the other time went.
    pub overhead: Overhead,
}

impl Ran {
    /// How many injections went in.
    pub fn landed(&self) -> usize {
        self.injections.iter().filter(|made| made.receipt.is_some()).count()
    }
}
