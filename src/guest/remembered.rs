//! What is remembered of a guest's RAM, and the signs that it still is so.
//!
//! A kernel proves itself as long as nobody writes over it, also where the guest has booted another
//! one since. So what is remembered counts only if the kernel has kept pace with the host since
//! it was seen, or ticks now.

use super::ram::{Candidate, FoundRam, LONGEST_STILL};
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
/// What is told of a guest whose clock stands still for longer than an idle one's.
const STANDS_STILL: &str = "the guest's clock stands still since it was last looked at: it is paused, was reset, or its VM has ended";
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
    /// Whether its clock was seen to tick then.
    ran: bool,
}

impl Seen {
    /// The kernel as it is now; `None` where it does not tell how long it has run.
    fn now(kernel: &Kernel, memory: &dyn GuestMemory) -> Option<Self> {
        let [guest, host] =
            [kernel.uptime(memory)?, host_uptime()].map(|time| time.as_millis() as u64);
        Some(Self { guest, host, ran: kernel.ticks })
    }

    /// By how much the kernel has run less since than the host has, or more.
    fn lag(self, now: Self) -> Duration {
        let (guest, host) = (now.guest.wrapping_sub(self.guest), now.host.wrapping_sub(self.host));
        Duration::from_millis(guest.abs_diff(host))
    }

    /// Whether it has kept pace with the host since, by what it is `now`.
    fn kept_pace(self, now: Self) -> bool {
        self.lag(now) < KEPT_PACE && (self.ran || now.guest > self.guest)
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
        let now = Seen::now(&guest.kernel, guest.memory());
        let kept_pace = now.is_some_and(|now| last.seen.kept_pace(now));
        if !kept_pace && !guest.kernel.ticks_within(guest.memory(), A_TICK) {
            log::debug!("what is remembered stands still: an earlier guest's, paused, or idle");
            return None;
        }
        guest.kernel.ticks = true;
        if now.is_none_or(|now| !last.seen.ran || last.seen.lag(now) > NOTICEABLE) {
            guest.remember(options, ram, candidate);
        }
        log::debug!("kernel: {}, as remembered", guest.kernel.banner);
        Some(guest)
    }

    /// Remembers what was found.
    pub(super) fn remember(&self, options: &GuestOptions, ram: &FoundRam, candidate: &Candidate) {
        let facts = Facts::of(&self.kernel, self.memory()).filter(|_| options.may_recall());
        let Some(facts) = facts else { return };
        let (layout, kernel) = (described(candidate), facts.name());
        let known: Option<Facts> = options.cache.recall(Shelf::Kernels, &kernel);
        if !self.kernel.recalled || known.is_none() {
            options.cache.remember(Shelf::Kernels, &kernel, &facts);
        }
        let Some(now) = Seen::now(&self.kernel, self.memory()) else { return };
        let (name, placement) = (ram.name(), Placement::of(&self.kernel));
        let last: Option<Remembered> = options.cache.recall(Shelf::Sources, &name);
        let still = last.filter(|last| last.placement == placement && last.seen.guest == now.guest);
        let seen = still.map_or(now, |still| Seen { ran: now.ran, ..still.seen });
        if !now.ran && seen.lag(now) > LONGEST_STILL {
            log::warn!("{STANDS_STILL}");
        }
        let found = Remembered { layout, kernel, placement, seen };
        options.cache.remember(Shelf::Sources, &name, &found);
    }
}

/// What tells `candidate` from others: two may have one name, or the same places.
fn described((layout, regions): &Candidate) -> String {
    let sources: Vec<_> = regions.iter().map(|region| region.source.to_string()).collect();
    format!("{layout}: {regions} of {}", sources.join(","))
}
