//! Being told to stop: what takes its time ends cleanly then.

use anyhow::Context;
use std::sync::atomic::{AtomicBool, Ordering};

static CAUGHT: AtomicBool = AtomicBool::new(false);
/// Whether they are caught already: a replay comes here for each injection.
static CATCHING: AtomicBool = AtomicBool::new(false);

/// From now on, Ctrl-C and what else ends programs is a word, not the end. A second time, it is.
pub fn catch() -> anyhow::Result<()> {
    if CATCHING.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let handler = || {
        if CAUGHT.swap(true, Ordering::Relaxed) {
            std::process::exit(STOPPED.into());
        }
    };
    ctrlc::set_handler(handler).context("cannot catch signals")
}

/// Whether that has been said.
pub fn caught() -> bool {
    CAUGHT.load(Ordering::Relaxed)
}

/// As a shell has it for what was interrupted.
pub const STOPPED: u8 = 130;
