//! What is remembered of a guest's RAM, and the signs that it still is so.
//!
//! A kernel proves itself as long as nobody writes over it, also where the guest has booted another
//! one since. So what is remembered counts only if the kernel has kept pace with the host since
//! it was seen, or ticks now.

use super::ram::{Candidate, FoundRam};
use super::{Guest, GuestError, GuestOptions};
use crate::cache::Shelf;
use crate::kernel::{Facts, Kernel, Placement};
use crate::memory::{self, GuestMemory};
use crate::vmm::host_uptime;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The clock of an idle kernel is mostly not later than that; to boot takes longer.
const KEPT_PACE: Duration = Duration::from_millis(600);
/// Two clocks that are apart by more than this are compared anew.
const NOTICEABLE: Duration = Duration::from_millis(300);
/// Within this a busy kernel ticks.
const A_TICK: Duration = Duration::from_millis(12);

/// What is remembered of a guest's RAM.
#[derive(Serialize, Deserialize)]
struct Remembered {
    /// How it is laid out, and where.
    layout: String,
    /// The name of its kernel's facts.
    kernel: String,
    placement: Placement,
    seen: Seen,
}

/// How long a kernel had run when it was seen, and the host, in ms.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Seen {
    guest: u64,
    host: u64,
}

impl Seen {
    /// The kernel as it is now; `None` where it does not tell how long it has run.
    fn now(kernel: &Kernel, memory: &dyn GuestMemory) -> Option<Self> {
        let [guest, host] =
            [kernel.uptime(memory)?, host_uptime()].map(|time| time.as_millis() as u64);
        Some(Self { guest, host })
    }

    /// By how much the kernel has run less since than the host has, or more.
    fn lag(self, now: Self) -> Duration {
        let (guest, host) = (now.guest.wrapping_sub(self.guest), now.host.wrapping_sub(self.host));
        Duration::from_millis(guest.abs_diff(host))
    }
}

impl Guest {
    /// The guest that was found in `ram` last, if it still is there as it was.
    pub(super) fn recall(options: &GuestOptions, ram: &FoundRam) -> Option<Self> {
        let name = options.may_recall().then(|| ram.name())?;
        let last: Remembered = options.cache.recall(Shelf::Sources, &name)?;
        let facts: Facts = options.cache.recall(Shelf::Kernels, &last.kernel)?;
        let mut candidates = ram.candidates.iter();
        let candidate = candidates.find(|candidate| described(candidate) == last.layout)?;
        let memory = memory::map(&ram.sources, candidate.1.clone()).ok()?;
        let kernel = last.placement.prove(memory.as_ref(), &facts).map_err(GuestError::from);
        let understood = kernel.and_then(|kernel| ram.agreed(candidate, memory, kernel));
        let guest = understood.and_then(|understood| Self::of(ram, candidate, understood));
        let guest = guest.inspect_err(|why| log::debug!("what is remembered fails: {why}"));
        let mut guest = guest.ok()?;
        let lag = Seen::now(&guest.kernel, guest.memory()).map(|now| last.seen.lag(now));
        let runs = lag.is_some_and(|lag| lag < KEPT_PACE)
            || guest.kernel.ticks_within(guest.memory(), A_TICK);
        if !runs {
            log::debug!("what is remembered stands still: an earlier guest's, or paused");
            return None;
        }
        if lag.is_none_or(|lag| lag > NOTICEABLE) {
            guest.remember(options, ram, candidate);
        }
        guest.kernel.ticks = true;
        log::debug!("kernel: {}, as remembered", guest.kernel.banner);
        Some(guest)
    }

    /// Remembers what was found.
    pub(super) fn remember(&self, options: &GuestOptions, ram: &FoundRam, candidate: &Candidate) {
        let facts = Facts::of(&self.kernel, self.memory()).filter(|_| options.may_recall());
        let Some(facts) = facts else { return };
        let (layout, kernel) = (described(candidate), facts.name());
        if !self.kernel.recalled {
            options.cache.remember(Shelf::Kernels, &kernel, &facts);
        }
        let Some(seen) = Seen::now(&self.kernel, self.memory()) else { return };
        let placement = Placement::of(&self.kernel);
        let found = Remembered { layout, kernel, placement, seen };
        options.cache.remember(Shelf::Sources, &ram.name(), &found);
    }
}

/// What tells `candidate` from others: two may have one name, or the same places.
fn described((layout, regions): &Candidate) -> String {
    let sources: Vec<_> = regions.iter().map(|region| region.source.to_string()).collect();
    format!("{layout}: {regions} of {}", sources.join(","))
}
