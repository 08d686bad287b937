//! Waiting until a place may be written.

use super::number;
use crate::address::Gva;
use crate::inject::InjectError;
use crate::process;
use crate::site::{Allow, Site, SiteError, Space};
use crate::victim::VictimMemory;
use clap::Args;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often the place is looked at meanwhile: a look takes some µs.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Args, Clone, Copy, Default)]
pub struct WaitArgs {
    /// Wait up to so long until the page is the victim's own: until it has written there
    #[arg(long, value_name = "SECONDS", value_parser = number::parse_duration)]
    wait_private: Option<Duration>,
    /// Wait up to so long until there is a page: until the victim has touched it
    #[arg(long, value_name = "SECONDS", value_parser = number::parse_duration)]
    wait_resident: Option<Duration>,
    /// When that began: the victim may be looked for again meanwhile, which takes no longer for it.
    #[arg(skip = Some(Instant::now()))]
    started: Option<Instant>,
}

impl WaitArgs {
    /// Whether what `error` says may pass, and there is time left.
    fn goes_on(self, error: &SiteError) -> bool {
        let private = self.wait_private.filter(|_| error.until_private());
        let resident = self.wait_resident.filter(|_| error.until_resident());
        let limit = private.or(resident);
        limit.zip(self.started).is_some_and(|(limit, started)| started.elapsed() < limit)
    }

    fn any(self) -> bool {
        self.wait_private.or(self.wait_resident).is_some()
    }
}

/// Does `work` with `memory` once the `size` bytes at `gva` may be written, or waiting has no end.
/// The victim's memory map changes meanwhile, so it is read anew each time.
pub fn once_ready<T>(
    wait: WaitArgs,
    memory: &VictimMemory,
    (gva, size, allow): (Gva, u64, Allow),
    work: impl Fn(&VictimMemory) -> Result<T, InjectError>,
) -> anyhow::Result<T> {
    while wait.any() {
        let now = VictimMemory::open(memory.guest, memory.task.clone())?;
        match Site::locate(Space::Victim(&now), gva, size, allow) {
            Err(error) if wait.goes_on(&error) => {
                process::still_runs(memory.guest, &memory.task)?;
                sleep(PAUSE);
            }
            _ => return Ok(work(&now)?),
        }
    }
    Ok(work(memory)?)
}
