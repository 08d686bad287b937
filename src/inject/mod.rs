//! The one write path of the whole program: locate, revalidate, write, read back, locate again,
//! receipt. What goes in with one call goes in as close together as can be.
//!
//! The guest runs on meanwhile, unless it is stopped for as long. Where the page moved away under the
//! write, the write is taken back if what was written still lies where it was, in a page that is
//! the same one to the kernel.

mod exchange;
mod fate;
mod order;
mod receipt;
mod series;

pub use exchange::read;
pub use fate::{Fate, Hold, hold, watch};
pub use order::{Aim, Order, OrderError, What, type_of};
pub use receipt::{Drawn, Hex, Receipt};
pub use series::{Cause, Prey, Series, SeriesError, Then};

use crate::address::{Gpa, Gva};
use crate::fault::Fault;
use crate::guest::{Guest, GuestError};
use crate::kernel::PageFacts;
use crate::memory::{GuestMemory, MemoryError};
use crate::process::ProcessError;
use crate::seed::Seed;
use crate::site::{Allow, Site, SiteError, Space};
use crate::vmm::{Pauser, VmError};
use exchange::{Exchanged, exchange, restore};
use receipt::Moment;

/// An injection that did not go through.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// The place may not be written.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// Guest RAM could not be read or written.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// RAM is not where it was mapped.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The process ended, or runs another program now.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The VM cannot be stopped or started again.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The guest stands still.
    #[error(
        "the guest's clock stands still: it is paused, was reset, or its VM has ended; nothing was written; let it run, or --force writes all the same"
    )]
    StandsStill,
    /// Its page moved before the write.
    #[error("the page of {0} moved before it could be written; nothing was written, try again")]
    MovedBefore(Gva),
    /// Its page moved after the write.
    #[error(
        "the page of {gva} moved while it was written: {after} was written over {before} at guest-physical {gpa}, and {}; try again", what_became(*.restored)
    )]
    MovedAfter {
        /// The address.
        gva: Gva,
        /// Where it was written.
        gpa: Gpa,
        /// The bytes that were there.
        before: Hex,
        /// The bytes that were written.
        after: Hex,
        /// Whether the bytes that were there are there again.
        restored: bool,
    },
    /// The victim writes the word faster than it can be exchanged.
    #[error("the bytes at guest-physical {0} change too fast to be replaced; {1} were written")]
    Contended(Gpa, usize),
    /// One of several did not go in, and another could not be taken back.
    #[error("{source}; of the others, what was written at {} stays", listed(.left))]
    Partly {
        /// Why.
        source: Box<InjectError>,
        /// Where something was written and stays.
        left: Vec<Gva>,
    },
}

fn what_became(restored: bool) -> &'static str {
    match restored {
        true => "taken back there: the victim has not seen it",
        false => "may not have reached the victim",
    }
}

fn listed(places: &[Gva]) -> String {
    places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What is to be done at one place.
#[derive(Clone)]
pub struct Injection<'a> {
    /// What the place is in.
    pub space: Space<'a>,
    /// The process id of the wrapper, or of the victim where it was given itself.
    pub pid: i32,
    /// The symbol's name.
    pub symbol: &'a str,
    /// Bytes from the symbol on.
    pub offset: i64,
    /// Where that is.
    pub gva: Gva,
    /// The fault model, as it was asked for.
    pub model: String,
    /// What to do there.
    pub fault: Fault,
    /// The seed that drew it, if one did.
    pub seed: Option<Seed>,
    /// Which of several it is.
    pub number: Option<u64>,
    /// How the place was drawn, if it was.
    pub drawn: Option<Drawn>,
    /// Which pages may be written.
    pub allow: Allow,
}

impl Injection<'_> {
    /// Where its first byte is.
    fn start(&self) -> Result<Gva, SiteError> {
        let start = self.gva.checked_add(self.fault.start());
        start.ok_or(SiteError::NotMapped(self.gva))
    }

    fn locate(&self, allow: Allow) -> Result<Site, SiteError> {
        let located = Site::locate(self.space, self.start()?, self.fault.size() as u64, allow);
        located.map_err(|error| error.with_sharers(self.space))
    }

    fn memory(&self) -> &dyn GuestMemory {
        self.space.guest().memory()
    }
}

/// An error unless the guest runs: what a kernel that is gone left in RAM proves itself just as
/// well.
pub fn check_running(guest: &Guest, allow: Allow) -> Result<(), InjectError> {
    let running = allow == Allow::Any || guest.runs();
    running.then_some(()).ok_or(InjectError::StandsStill)
}

/// All but the write.
pub fn rehearse(injections: &[Injection]) -> Result<Vec<Receipt>, InjectError> {
    let receipt = |order: &Injection| {
        let site = order.locate(order.allow)?;
        let before = read(order.memory(), &site)?;
        let after = order.fault.apply(&before);
        let done = Exchanged { before, after };
        Ok(Receipt::new(order, &site, done, None, (Moment::now(), false)))
    };
    injections.iter().map(receipt).collect()
}

/// Makes all of `injections`, or none, while the VM runs or is stopped by `pauser`; `after` looks at
/// it just after, before it runs on. The guest must have been seen to run ([`check_running`]).
pub fn inject(
    injections: &[Injection],
    pauser: Option<&Pauser>,
    after: impl FnOnce(),
) -> Result<Vec<Receipt>, InjectError> {
    let located = injections.iter().map(|order| Ok((order, order.locate(order.allow)?)));
    let aims = located.collect::<Result<Vec<_>, InjectError>>()?;
    let paused = pauser.map(Pauser::pause).transpose()?;
    let checked = aims.iter().try_for_each(|aim| revalidate(aim));
    let done = checked.and_then(|()| write(&aims, paused.is_some()));
    if done.is_ok() {
        after();
    }
    paused.map_or(Ok(()), |paused| paused.resume())?;
    done
}

/// What came of putting back what was there before an injection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// It is there again.
    Restored,
    /// What was written is there no more, but this.
    Changed(Hex),
}

/// Puts back what was there `before`, if what was written is still at the place of `order`.
pub fn undo(order: &Injection, before: &Hex, after: &Hex) -> Result<Undone, InjectError> {
    let aim = (order, order.locate(order.allow)?);
    revalidate(&aim)?;
    let found = read(order.memory(), &aim.1)?;
    let done = Exchanged { before: before.0.clone(), after: after.0.clone() };
    if found == after.0 && restore(order.memory(), &aim.1, &done) {
        return Ok(Undone::Restored);
    }
    Ok(Undone::Changed(Hex(read(order.memory(), &aim.1)?)))
}

/// An injection, and where it goes.
type Located<'i, 'a> = (&'i Injection<'a>, Site);

/// An error unless all still is as it was when the site was located.
fn revalidate((order, site): &Located) -> Result<(), InjectError> {
    // First, for the rest is read through what was mapped.
    order.space.guest().ram_still_there()?;
    order.space.still_there()?;
    match order.locate(order.allow).is_ok_and(|now| now == *site) {
        true => Ok(()),
        false => Err(InjectError::MovedBefore(order.gva)),
    }
}

/// An injection that was made.
struct Done<'x, 'a> {
    aim: &'x Located<'x, 'a>,
    exchanged: Exchanged,
    /// What the kernel said of its pages before.
    owners: Option<Vec<PageFacts>>,
    at: Moment,
}

fn write(aims: &[Located], paused: bool) -> Result<Vec<Receipt>, InjectError> {
    let owners: Vec<_> = aims.iter().map(owners).collect();
    let mut all: Vec<Done> = Vec::new();
    for (aim, owners) in aims.iter().zip(owners) {
        match exchange(aim.0.memory(), &aim.1, &aim.0.fault) {
            Ok(exchanged) => all.push(Done { aim, exchanged, owners, at: Moment::now() }),
            Err(error) => return Err(taken_back(&all, error)),
        }
    }
    let found = aims.iter().map(|(order, site)| read(order.memory(), site));
    let found = found.collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| taken_back(&all, error.into()))?;
    if let Some(moved) = all.iter().position(|done| !done.in_place()) {
        let moved = all.remove(moved);
        return Err(taken_back(&all, moved.error()));
    }
    Ok(all.into_iter().zip(found).map(|(done, found)| done.receipt(found, paused)).collect())
}

/// The error, after all that was `done` is taken back, as far as it can be.
fn taken_back(done: &[Done], error: InjectError) -> InjectError {
    let left = done.iter().rev().filter(|done| !done.take_back());
    let left: Vec<_> = left.map(|done| done.aim.1.start().gva).collect();
    match left.is_empty() {
        true => error,
        false => InjectError::Partly { source: Box::new(error), left },
    }
}

impl Done<'_, '_> {
    /// Whether what was written is what is seen at the place.
    fn in_place(&self) -> bool {
        let (order, site) = self.aim;
        let there = order.space.guest().ram_still_there().is_ok();
        there && order.locate(Allow::Any).is_ok_and(|now| now.same_place(site))
    }

    /// Puts back what was there, where the pages still are the same ones to the kernel.
    fn take_back(&self) -> bool {
        let (order, site) = self.aim;
        let there = order.space.guest().ram_still_there().is_ok();
        let same = there && self.owners.is_some() && self.owners == owners(self.aim);
        same && restore(order.memory(), site, &self.exchanged)
    }

    /// That its page moved away.
    fn error(self) -> InjectError {
        let restored = self.take_back();
        let site = &self.aim.1;
        let (gva, gpa) = (site.start().gva, site.start().gpa);
        let Exchanged { before, after } = self.exchanged;
        let (before, after) = (Hex(before), Hex(after));
        InjectError::MovedAfter { gva, gpa, before, after, restored }
    }

    fn receipt(self, found: Vec<u8>, paused: bool) -> Receipt {
        let (order, site) = self.aim;
        Receipt::new(order, site, self.exchanged, Some(found), (self.at, paused))
    }
}

/// What the kernel says of each page of a site; `None` where it does not, or a page is free.
fn owners((order, site): &Located) -> Option<Vec<PageFacts>> {
    let kernel = order.space.guest().kernel();
    let facts = site.pieces().map(|piece| kernel.page(order.memory(), piece.gpa).ok()?);
    facts.map(|facts| facts.filter(|facts| !facts.free)).collect()
}
