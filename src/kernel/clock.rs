//! The kernel's clock: its count of ticks. It tells a kernel that runs from what an earlier one left
//! in RAM.

use super::{ClockLayout, Kernel, KernelError, Located, Symbols, field, slid};
use crate::arch::VirtualMemory;
use crate::memory::GuestMemory;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

/// A busy kernel ticks each 1 to 10 ms.
const PAUSE: Duration = Duration::from_millis(1);
const SECOND: u64 = 1_000_000_000;
/// The count of ticks is 0 this long after boot, in its low 32 bits, so that wrapping shows early
/// (`INITIAL_JIFFIES`, include/linux/jiffies.h).
const WRAPS_AFTER: u64 = 300;
/// What holds the `struct timekeeper` of the time of day: `timekeeper_data` has several since 6.17,
/// and that one first.
const TIMEKEEPERS: [&str; 2] = ["tk_core", "timekeeper_data"];
/// Its seconds lie within so many words.
const TIMEKEEPER_WORDS: u64 = 64;
/// A guest has its time of day from a clock of whole seconds, and looks at it when it ticks.
const LATE: u64 = 3;

/// A clock, and what it said first.
pub struct Watch {
    first: Option<u64>,
    at: Instant,
}

impl Watch {
    /// Of a clock that says `first`.
    pub fn new(first: Option<u64>) -> Self {
        Self { first, at: Instant::now() }
    }

    /// Whether it has gone on, if it says `now`.
    pub fn ticks(&self, now: Option<u64>) -> bool {
        let both = self.first.zip(now);
        both.is_some_and(|(first, now)| ticked(first, now, self.at.elapsed()))
    }
}

/// Whether a clock went on by what `elapsed` allows. Where an earlier kernel had its clock, the
/// guest may have put anything.
fn ticked(first: u64, now: u64, elapsed: Duration) -> bool {
    const MOST_TICKS_A_MS: u64 = 2;
    // After a pause, a guest may catch up.
    const CAUGHT_UP: u64 = 1000;
    let most = CAUGHT_UP + MOST_TICKS_A_MS * elapsed.as_millis() as u64;
    now.checked_sub(first).is_some_and(|ticks| (1..=most).contains(&ticks))
}

/// What `look` finds within `limit`.
pub fn within<T>(limit: Duration, look: impl Fn() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        match look() {
            None if started.elapsed() < limit => sleep(PAUSE),
            found => return found,
        }
    }
}

/// The count of ticks of the kernel at `located`.
pub fn ticks(
    memory: &dyn GuestMemory,
    symbols: &Symbols,
    located: &Located,
) -> Result<u64, KernelError> {
    let view = VirtualMemory { memory, space: located.space };
    Ok(view.read_u64(slid(symbols, located, "jiffies_64")?)?)
}

impl Kernel {
    /// Its count of ticks.
    pub(super) fn clock(&self, memory: &dyn GuestMemory) -> Option<u64> {
        ticks(memory, &self.symbols, &self.located).ok()
    }

    /// Whether it has a clock that is known.
    pub fn has_clock(&self, memory: &dyn GuestMemory) -> bool {
        self.clock(memory).is_some()
    }

    /// Whether it ticks within `limit`.
    pub fn ticks_within(&self, memory: &dyn GuestMemory, limit: Duration) -> bool {
        let watch = Watch::new(self.clock(memory));
        within(limit, || watch.ticks(self.clock(memory)).then_some(())).is_some()
    }

    /// Whether the time of day that it keeps is the host's: of an earlier kernel, it is the time of
    /// its end. That a guest's clock is set otherwise says nothing.
    pub(super) fn keeps_the_hosts_time(&self, memory: &dyn GuestMemory) -> bool {
        let view = VirtualMemory { memory, space: self.space() };
        let keeper = TIMEKEEPERS.iter().find_map(|name| self.symbol(name).ok());
        let Some((keeper, now)) = keeper.zip(time_of_day()) else { return false };
        let fields = (0..TIMEKEEPER_WORDS).filter_map(|word| field(keeper, 8 * word).ok());
        let mut values = fields.filter_map(|at| view.read_u64(at).ok());
        values.any(|seconds| (now - LATE..=now + 1).contains(&seconds))
    }

    /// How long it has run, by its ticks: one that is idle or stopped counts none. `None` where the
    /// layouts do not tell how long a tick is.
    pub fn uptime(&self, memory: &dyn GuestMemory) -> Option<Duration> {
        let tick = self.tick(memory, self.layouts.clock.as_ref()?).ok()?;
        let hz = (SECOND + tick / 2).checked_div(tick)?;
        let start = (1u64 << 32).checked_sub(WRAPS_AFTER * hz)?;
        let ticks = self.clock(memory)?.checked_sub(start)?;
        ticks.checked_mul(tick).map(Duration::from_nanos)
    }

    /// How long a tick is, in ns, as the clock source that counts ticks has it.
    fn tick(&self, memory: &dyn GuestMemory, layout: &ClockLayout) -> Result<u64, KernelError> {
        let view = VirtualMemory { memory, space: self.space() };
        let source = self.symbol("clocksource_jiffies")?;
        let [mult, shift] = [layout.mult, layout.shift]
            .map(|offset| Ok::<_, KernelError>(view.read_u32(field(source, offset)?)?));
        Ok(u64::from(mult?.checked_shr(shift?).unwrap_or(0)))
    }
}

/// The host's, in seconds since 1970.
fn time_of_day() -> Option<u64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.ok().map(|since| since.as_secs()).filter(|now| *now > LATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_tick_forward_and_not_too_far() {
        let elapsed = Duration::from_millis(10);
        assert!(ticked(5, 6, elapsed) && ticked(5, 100, elapsed));
        assert!(!ticked(5, 5, elapsed) && !ticked(5, 4, elapsed));
        assert!(!ticked(5, u64::MAX, elapsed));
    }
}
