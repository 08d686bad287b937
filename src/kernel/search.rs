//! The search for the kernel that runs. A RAM file may hold others: an earlier guest's image, with
//! its tables and tasks, lies there until it is overwritten. Each candidate is proved or rejected;
//! of several that prove themselves the one is taken whose clock moves.

use super::clock::{Watch, ticks, within};
use super::diagnosis::{at_a_glance, explain};
use super::scan::{Sights, banner};
use super::{Facts, Failure, Findings, Kernel, KernelError, Layouts, Located, Symbols};
use super::{VmCoreInfo, find, own_symbols, release};
use crate::memory::GuestMemory;
use std::sync::Arc;
use std::time::Duration;

/// An idle kernel may stop its tick for some seconds.
const LONGEST_STILL: Duration = Duration::from_secs(5);
/// How long a clock is watched of a kernel that is not proved anyway.
const STILL: Duration = Duration::from_secs(1);
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

/// A kernel that is proved.
struct Proved {
    kernel: Kernel,
    watch: Watch,
}

/// What was found until now.
pub struct Search<'m> {
    memory: &'m dyn GuestMemory,
    layouts: Option<&'m Layouts>,
    proved: Vec<Proved>,
    rejected: Vec<Rejected>,
    failed: Option<Failure>,
    /// The kernels of the rejected that are where they should be.
    located: Vec<Unproved>,
    effort: own_symbols::Effort,
    /// What a look at all of RAM showed, where it was needed.
    sights: Option<Sights>,
}

impl<'m> Search<'m> {
    /// A search in `memory`; with the kernels' own layouts where none are given.
    pub fn new(memory: &'m dyn GuestMemory, layouts: Option<&'m Layouts>) -> Self {
        let (proved, rejected, located) = (Vec::new(), Vec::new(), Vec::new());
        let effort = own_symbols::Effort::new();
        Self { memory, layouts, proved, rejected, failed: None, located, effort, sights: None }
    }

    /// Tries the kernels that are `known`, then every other one that tells its symbols: those that
    /// left a note first, until there is one whose clock ticks, or is the host's. What an earlier
    /// guest left may be among them all, so each note must be a proved kernel's, or is looked into.
    pub fn look_for_any(&mut self, known: &[Facts]) {
        known.iter().for_each(|facts| self.look_for_known(facts));
        let (memory, mut tried) = (self.memory, 0);
        for notes in VmCoreInfo::from_top(memory) {
            for note in &notes {
                tried += usize::from(tried < MOST_NOTES && self.look_into(note));
            }
            if self.ticking().is_some() || self.proved.iter().any(|proved| self.is_timely(proved)) {
                return;
            }
        }
        if self.proved.is_empty() {
            self.look_everywhere();
        }
    }

    /// Tries the kernel that wrote `note`; whether that is not a proved one.
    fn look_into(&mut self, note: &VmCoreInfo) -> bool {
        let known = self.proved.iter().any(|proved| proved.kernel.wrote(note));
        if !known {
            let own = own_symbols::of_note(self.memory, note, &self.effort);
            own.into_iter().for_each(|own| self.look_for(&Arc::new(own)));
        }
        !known
    }

    /// Which of the kernels that are proved has a clock that ticks.
    fn ticking(&self) -> Option<usize> {
        let now = |proved: &Proved| proved.kernel.clock(self.memory);
        self.proved.iter().position(|proved| proved.watch.ticks(now(proved)))
    }

    fn is_timely(&self, proved: &Proved) -> bool {
        proved.kernel.keeps_the_hosts_time(self.memory)
    }

    /// Tries every kernel whose tables show by their form, wherever they lie; unless a glance tells
    /// that there is none.
    fn look_everywhere(&mut self) {
        if let Some(diagnosis) = at_a_glance(self.memory) {
            self.fail(diagnosis.into(), Findings::default());
            return;
        }
        let sights = Sights::of(self.memory);
        let own = own_symbols::at_digits(self.memory, &sights.digits, &self.effort);
        self.sights = Some(sights);
        own.into_iter().for_each(|own| self.look_for(&Arc::new(own)));
    }

    /// Tries every place in RAM that may hold the kernel of `facts`. That it is not there is what
    /// most that is remembered says.
    fn look_for_known(&mut self, facts: &Facts) {
        let candidates = find::candidates(self.memory, facts.symbols()).unwrap_or_default();
        let proved = candidates.into_iter().filter_map(|at| facts.prove_anew(self.memory, at).ok());
        proved.for_each(|kernel| self.keep(kernel));
    }

    /// Tries every place in RAM that may hold the kernel of `symbols`.
    pub fn look_for(&mut self, symbols: &Arc<Symbols>) {
        let from = || symbols.path().display().to_string();
        let candidates = match find::candidates(self.memory, symbols) {
            Ok(candidates) => candidates,
            Err(error) => return self.reject(from(), error, Findings::default()),
        };
        for located in candidates {
            let what = format!("a kernel with its banner at {}, by {}", located.banner, from());
            match Kernel::prove(self.memory, symbols, located, self.layouts) {
                Ok(kernel) => self.keep(kernel),
                Err(error) => {
                    let findings = self.located(symbols, located);
                    self.reject(what, error, findings);
                }
            }
        }
    }

    /// What is known of a kernel that is rejected although it is where it should be.
    fn located(&mut self, symbols: &Arc<Symbols>, located: Located) -> Findings {
        let mut text = [0; 256];
        let read = self.memory.read(located.banner, &mut text);
        let banner = read.ok().and_then(|()| banner(&text));
        let symbols = Arc::clone(symbols);
        let findings = Findings::located(&symbols, &located, banner.clone());
        self.located.push(Unproved { symbols, located, banner });
        findings
    }

    /// Keeps a kernel that is proved; it may have shown in several ways.
    fn keep(&mut self, kernel: Kernel) {
        let same = |other: &Proved| other.kernel.located.banner == kernel.located.banner;
        if !self.proved.iter().any(same) {
            let watch = Watch::new(kernel.clock(self.memory));
            self.proved.push(Proved { kernel, watch });
        }
    }

    fn reject(&mut self, what: String, why: KernelError, findings: Findings) {
        log::debug!("rejected: {what}: {why}");
        self.rejected.push(Rejected { what, why: why.to_string() });
        self.fail(why, findings);
    }

    /// Of several failures, that of the kernel counts that came furthest.
    fn fail(&mut self, error: KernelError, findings: Findings) {
        let before = self.failed.as_ref().is_some_and(|failed| failed.findings.paging.is_some());
        if findings.paging.is_some() || !before {
            let findings = Box::new(findings);
            self.failed = Some(Failure { error, findings, whatever_the_layout: false });
        }
    }

    /// The kernel that runs; `symbols` are those given.
    pub fn conclude(mut self, symbols: Option<&Arc<Symbols>>) -> Result<Kernel, Failure> {
        if self.proved.is_empty() {
            return Err(self.failure(symbols));
        }
        let index = match self.proved.len() {
            1 => 0,
            _ => self.alive().map_err(Failure::at_once)?,
        };
        let ticking = self.ticking();
        let mut kernel = self.proved.swap_remove(index).kernel;
        kernel.ticks = ticking == Some(index);
        for other in self.proved {
            let what = format!("a kernel with its banner at {}", other.kernel.located.banner);
            let why = "its clock stands still: it is an earlier guest's".to_owned();
            log::debug!("rejected: {what}: {why}");
            self.rejected.push(Rejected { what, why });
        }
        kernel.rejected = self.rejected;
        Ok(kernel)
    }

    /// Why there is no kernel.
    fn failure(mut self, symbols: Option<&Arc<Symbols>>) -> Failure {
        let mut failure = match (self.failed.take(), self.silent()) {
            (Some(_), Some(banner)) => Failure::at_once(KernelError::OnlyEarlier(banner)),
            (Some(failed), None) => failed,
            (None, _) => Failure::at_once(self.explain(symbols)),
        };
        failure.whatever_the_layout = match &failure.error {
            KernelError::Diagnosed(_) | KernelError::NoKernel => true,
            KernelError::NoSymbols(_) => self.sights.is_some_and(|seen| seen.digits.is_empty()),
            _ => false,
        };
        failure.findings.rejected = self.rejected;
        failure
    }

    fn explain(&mut self, symbols: Option<&Arc<Symbols>>) -> KernelError {
        if let Some(diagnosis) = at_a_glance(self.memory) {
            return diagnosis.into();
        }
        let sights = self.sights.get_or_insert_with(|| Sights::of(self.memory));
        explain(self.memory, symbols.map(Arc::as_ref), sights)
    }

    /// The banner of a kernel that does not tell its symbols, where those that do are an earlier
    /// guest's: none of their clocks ticks.
    fn silent(&self) -> Option<String> {
        // Near copies of a kernel's banner lie about in RAM.
        let earlier =
            self.located.iter().map(|located| located.banner.as_deref().and_then(release));
        let earlier: Vec<_> = earlier.collect();
        let mut banners = self.sights.as_ref()?.banners.iter();
        let other = banners.find(|banner| !earlier.contains(&release(banner)))?;
        let clocks = || self.located.iter().map(|kernel| kernel.clock(self.memory));
        let watches: Vec<_> = clocks().map(Watch::new).collect();
        let ticking = || watches.iter().zip(clocks()).position(|(watch, now)| watch.ticks(now));
        let still = !earlier.is_empty() && within(STILL, ticking).is_none();
        still.then(|| other.clone())
    }

    /// Waits until the clock of one of the kernels ticks.
    fn alive(&self) -> Result<usize, KernelError> {
        let banner = |index: usize| self.proved[index].kernel.located.banner;
        let several = || KernelError::Several(banner(0), banner(1));
        within(LONGEST_STILL, || self.ticking()).ok_or_else(several)
    }
}

/// The banner of another kernel in RAM, where the clock of this one stands still: an earlier guest's
/// may prove itself as long as nothing has been written over it. Looks at all of RAM.
pub fn outlived(memory: &dyn GuestMemory, kernel: &Kernel) -> Option<String> {
    if kernel.ticks_within(memory, STILL) {
        return None;
    }
    let mut banners = Sights::of(memory).banners.into_iter();
    banners.find(|banner| release(banner) != release(&kernel.banner))
}

/// A kernel that is where it should be, and is not proved.
struct Unproved {
    symbols: Arc<Symbols>,
    located: Located,
    banner: Option<String>,
}

impl Unproved {
    fn clock(&self, memory: &dyn GuestMemory) -> Option<u64> {
        ticks(memory, &self.symbols, &self.located).ok()
    }
}
