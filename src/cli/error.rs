//! What is wrong with a command line itself, or with what it asks for.

/// Something on the command line that only shows when it is looked at closer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// No wrapper runs; the empty list has been printed.
#[derive(Debug, thiserror::Error)]
#[error(
    "no process named '{0}' in the guest; start the victim with '{0} PROGRAM', or see 'vmfi list --all'"
)]
pub struct NoWrapper(pub String);

/// What was waited for did not come.
#[derive(Debug, thiserror::Error)]
#[error("the trigger never fired: '{event}' was not seen {seen}, and {why}; nothing was written")]
pub struct NeverFired {
    /// What was waited for.
    pub event: String,
    /// Why that had an end.
    pub why: String,
    /// How often was looked, and what was seen.
    pub seen: String,
}

/// The first injection was not due before all ended.
#[derive(Debug, thiserror::Error)]
#[error("no injection was due before {0}; nothing was written")]
pub struct NeverDue(pub String);

/// Some of what a log tells of was left as it is.
#[derive(Debug, thiserror::Error)]
#[error("{left} of {all} injections were left as they are: what they wrote is not there any more")]
pub struct NotUndone {
    /// How many.
    pub left: usize,
    /// Of how many.
    pub all: usize,
}

/// No RAM source was named.
#[derive(Debug, thiserror::Error)]
pub enum NoMemory {
    /// And no VM runs.
    #[error(
        "no guest RAM given, and no VM runs here: give -m the file that the VMM maps, or set VMFI_MEMORY, or start the guest"
    )]
    NoVm,
    /// The list of a Palacios host tells of several.
    #[error("--ram-layout palacios goes with -m, or VMFI_MEMORY: the VM's device")]
    NoDevice,
}

/// No VM runs; the empty list has been printed.
#[derive(Debug, thiserror::Error)]
#[error("no VM runs here: no process qemu-system-... with RAM; start the guest")]
pub struct NoVm;
