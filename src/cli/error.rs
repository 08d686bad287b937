//! What is wrong with a command line itself, or with what it asks for.

/// Something on the command line that only shows when it is looked at closer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// No wrapper runs; the empty list has been printed.
#[derive(Debug, thiserror::Error)]
#[error(
    "no process named '{0}' in the guest; start the victim with 'wrapper PROGRAM', or see 'vmfi list --all'"
)]
pub struct NoWrapper(pub String);

/// No RAM source was named.
#[derive(Debug, thiserror::Error)]
#[error("no guest RAM given: give -m the file that the VMM maps, or set VMFI_MEMORY")]
pub struct NoMemory;
