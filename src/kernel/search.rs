//! The search for the kernel that runs. A RAM file may hold others: an earlier guest's image, with
//! its tables and tasks, lies there until it is overwritten. Each candidate is proved or rejected;
//! of several that prove themselves the one is taken whose clock moves.

use super::{Facts, Kernel, KernelError, Layouts, Symbols, VmCoreInfo, find, own_symbols};
use crate::address::Gpa;
use crate::memory::GuestMemory;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// An idle kernel may stop its tick for some seconds.
const LONGEST_STILL: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);
/// More notes than there are: a live one and stale copies. Hostile ones could be in each page.
const MOST_NOTES: usize = 16;

/// Something that looked like the guest's kernel and is not.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// What it is.
    pub what: String,
    /// Why it was not taken.
    pub why: String,
}

/// What was found until now.
pub struct Search<'m> {
    memory: &'m dyn GuestMemory,
    layouts: Option<&'m Layouts>,
    proved: Vec<Kernel>,
    rejected: Vec<Rejected>,
    failed: Option<KernelError>,
}

impl<'m> Search<'m> {
    /// A search in `memory`; with the kernels' own layouts where none are given.
    pub fn new(memory: &'m dyn GuestMemory, layouts: Option<&'m Layouts>) -> Self {
        Self { memory, layouts, proved: Vec::new(), rejected: Vec::new(), failed: None }
    }

    /// Tries the kernels that are `known`, then every other one that tells its symbols: those that
    /// left a note first. What an earlier guest left may be among them all, so each note must be a
    /// proved kernel's, or is looked into.
    pub fn look_for_any(&mut self, known: &[Facts]) {
        known.iter().for_each(|facts| self.look_for_known(facts));
        for note in VmCoreInfo::all(self.memory).iter().take(MOST_NOTES) {
            if !self.proved.iter().any(|kernel| kernel.wrote(note)) {
                let own = own_symbols::of_note(self.memory, note);
                own.into_iter().for_each(|own| self.look_for(&Arc::new(own)));
            }
        }
        if self.proved.is_empty() {
            let own = own_symbols::by_form(self.memory, &(Gpa(0)..Gpa(u64::MAX)));
            own.into_iter().for_each(|own| self.look_for(&Arc::new(own)));
        }
    }

    /// Tries every place in RAM that may hold the kernel of `facts`. That it is not there is what
    /// most that is remembered says.
    fn look_for_known(&mut self, facts: &Facts) {
        let candidates = find::candidates(self.memory, facts.symbols()).unwrap_or_default();
        let proved = candidates.into_iter().filter_map(|at| facts.prove(self.memory, at).ok());
        proved.for_each(|kernel| self.keep(kernel));
    }

    /// Tries every place in RAM that may hold the kernel of `symbols`.
    pub fn look_for(&mut self, symbols: &Arc<Symbols>) {
        let from = || symbols.path().display().to_string();
        let candidates = match find::candidates(self.memory, symbols) {
            Ok(candidates) => candidates,
            Err(error) => return self.reject(from(), error),
        };
        for located in candidates {
            let what = format!("a kernel with its banner at {}, by {}", located.banner, from());
            match Kernel::prove(self.memory, symbols, located, self.layouts) {
                Ok(kernel) => self.keep(kernel),
                Err(error) => self.reject(what, error),
            }
        }
    }

    /// Keeps a kernel that is proved; it may have shown in several ways.
    fn keep(&mut self, kernel: Kernel) {
        let same = |other: &Kernel| other.located.banner == kernel.located.banner;
        if !self.proved.iter().any(same) {
            self.proved.push(kernel);
        }
    }

    fn reject(&mut self, what: String, why: KernelError) {
        log::debug!("rejected: {what}: {why}");
        self.rejected.push(Rejected { what, why: why.to_string() });
        self.failed = Some(why);
    }

    /// The kernel that runs; `none` tells why there is no candidate at all.
    pub fn conclude(mut self, none: impl FnOnce() -> KernelError) -> Result<Kernel, KernelError> {
        if self.proved.is_empty() {
            return Err(self.failed.unwrap_or_else(none));
        }
        let index = if self.proved.len() == 1 { 0 } else { self.alive()? };
        let mut kernel = self.proved.swap_remove(index);
        for other in self.proved {
            let what = format!("a kernel with its banner at {}", other.located.banner);
            let why = "its clock stands still: it is an earlier guest's".to_owned();
            log::debug!("rejected: {what}: {why}");
            self.rejected.push(Rejected { what, why });
        }
        kernel.rejected = self.rejected;
        Ok(kernel)
    }

    /// Which of the kernels has a clock that ticks.
    fn alive(&self) -> Result<usize, KernelError> {
        let clocks = || self.proved.iter().map(|kernel| kernel.clock(self.memory).ok());
        let (started, first) = (Instant::now(), clocks().collect::<Vec<_>>());
        while started.elapsed() < LONGEST_STILL {
            sleep(PAUSE);
            let ticked = |(first, now): (&Option<u64>, Option<u64>)| {
                first.zip(now).is_some_and(|(first, now)| ticked(first, now, started.elapsed()))
            };
            if let Some(index) = first.iter().zip(clocks()).position(ticked) {
                return Ok(index);
            }
        }
        let (one, other) = (&self.proved[0].located, &self.proved[1].located);
        Err(KernelError::Several(one.banner, other.banner))
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
