//! The one write path of the whole program: locate, revalidate, write, read back, locate again,
//! receipt.
//!
//! The guest runs on meanwhile, unless it is stopped for as long. Where the page moved away under the
//! write, the write is taken back if what was written still lies where it was, in a page that is
//! the same one to the kernel.

use crate::address::{Gpa, Gva};
use crate::fault::Fault;
use crate::guest::GuestError;
use crate::kernel::PageFacts;
use crate::memory::{GuestMemory, MemoryError, WORD};
use crate::process::ProcessError;
use crate::site::{Allow, Site, SiteError, Space, Verdict};
use crate::vmm::{Pause, VmError};
use rustix::time::{ClockId, clock_gettime};
use serde::{Serialize, Serializer};
use std::ops::Range;

/// How often a word that the victim keeps changing is tried again.
const TRIES: usize = 100_000;

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
        before: String,
        /// The bytes that were written.
        after: String,
        /// Whether the bytes that were there are there again.
        restored: bool,
    },
    /// The victim writes the word faster than it can be exchanged.
    #[error("the bytes at guest-physical {0} change too fast to be replaced; {1} were written")]
    Contended(Gpa, usize),
}

fn what_became(restored: bool) -> &'static str {
    match restored {
        true => "taken back there: the victim has not seen it",
        false => "may not have reached the victim",
    }
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Injection<'a> {
    /// The process id of the wrapper, or of the victim where it was given itself.
    pub pid: i32,
    /// The symbol's name.
    pub symbol: &'a str,
    /// Bytes from the symbol on.
    pub offset: i64,
    /// Where that is in the victim.
    pub gva: Gva,
    /// What to write.
    pub fault: Fault,
    /// The seed that drew it, if one did.
    pub seed: Option<u64>,
    /// How the place was drawn, if it was.
    pub drawn: Option<Drawn>,
    /// Which pages may be written.
    pub allow: Allow,
    /// How the VM is stopped meanwhile, if it is.
    pub pause: Option<Pause<'a>>,
    /// All but the write.
    pub dry_run: bool,
}

/// How a place was drawn from many.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drawn {
    /// What it was drawn from.
    pub region: String,
    /// How many bytes of that were in RAM, each as likely as the others.
    pub sampled_from: u64,
    /// How likely this one was.
    pub probability: f64,
}

/// The record of an injection.
#[derive(Clone, Debug, Serialize)]
pub struct Receipt {
    /// The process id given.
    pub pid: i32,
    /// The victim's process id.
    pub victim_pid: i32,
    /// The victim's name.
    pub comm: String,
    /// The symbol's name.
    pub symbol: String,
    /// Bytes from the symbol on.
    pub offset: i64,
    /// Where it was written in the victim.
    #[serde(serialize_with = "address")]
    pub gva: u64,
    /// Where it was written in guest-physical memory: the first byte's place.
    #[serde(serialize_with = "address")]
    pub gpa: u64,
    /// Bytes.
    pub size: usize,
    /// The bytes that were really replaced, in memory order.
    #[serde(serialize_with = "hexadecimal")]
    pub before: Vec<u8>,
    /// The bytes that were written.
    #[serde(serialize_with = "hexadecimal")]
    pub after: Vec<u8>,
    /// The bytes found right after; none in a dry run.
    #[serde(serialize_with = "optional_hexadecimal")]
    pub read_back: Option<Vec<u8>>,
    /// Whether the victim wrote in between.
    pub overwritten: bool,
    /// Whether all bytes changed at one instant.
    pub atomic: bool,
    /// The seed that drew the fault, or the place.
    pub seed: Option<u64>,
    /// How the place was drawn.
    #[serde(flatten)]
    pub drawn: Option<Drawn>,
    /// Whose its page is.
    pub verdict: Verdict,
    /// Whether what is there is run by something that need not see it change.
    #[serde(skip_serializing_if = "is_false")]
    pub effect_unproven: bool,
    /// Whether the VM was stopped meanwhile.
    #[serde(skip_serializing_if = "is_false")]
    pub paused: bool,
    /// When, in RFC 3339.
    pub time: String,
    /// When, on the host's monotonic clock.
    pub monotonic_ns: u64,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn address<S: Serializer>(address: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{address:#x}"))
}

fn hexadecimal<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(bytes))
}

fn optional_hexadecimal<S: Serializer>(
    bytes: &Option<Vec<u8>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    bytes.as_deref().map(hex).serialize(serializer)
}

/// Bytes as hexadecimal digits, in memory order.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes one injection.
pub fn inject(space: Space, order: &Injection) -> Result<Receipt, InjectError> {
    let site = locate(space, order, order.allow)?;
    let memory = space.guest().memory();
    if order.dry_run {
        let before = read(memory, &site)?;
        let after = order.fault.apply(&before);
        return Ok(receipt(space, order, &site, Exchanged { before, after }, None));
    }
    // What a kernel that is gone left in RAM proves itself just as well.
    if order.allow == Allow::Own && !space.guest().runs() {
        return Err(InjectError::StandsStill);
    }
    let paused = order.pause.map(Pause::begin).transpose()?;
    let done = revalidate(space, order, &site).and_then(|()| write(space, order, &site));
    paused.map_or(Ok(()), |paused| paused.resume())?;
    done
}

fn locate(space: Space, order: &Injection, allow: Allow) -> Result<Site, SiteError> {
    let located = Site::locate(space, order.gva, order.fault.size() as u64, allow);
    located.map_err(|error| error.with_sharers(space))
}

/// An error unless all still is as it was when the site was located.
fn revalidate(space: Space, order: &Injection, site: &Site) -> Result<(), InjectError> {
    // First, for the rest is read through what was mapped.
    space.guest().ram_still_there()?;
    space.still_there()?;
    match locate(space, order, order.allow).is_ok_and(|now| now == *site) {
        true => Ok(()),
        false => Err(InjectError::MovedBefore(order.gva)),
    }
}

fn write(space: Space, order: &Injection, site: &Site) -> Result<Receipt, InjectError> {
    let (guest, memory) = (space.guest(), space.guest().memory());
    let owners = owners(space, site);
    let exchanged = exchange(memory, site, &order.fault)?;
    let read_back = read(memory, site)?;
    let now = locate(space, order, Allow::Any);
    let there = guest.ram_still_there().is_ok();
    if there && now.is_ok_and(|now| now.same_place(site)) {
        return Ok(receipt(space, order, site, exchanged, Some(read_back)));
    }
    let same = there && owners.is_some() && owners == self::owners(space, site);
    let restored = same && restore(memory, site, &exchanged);
    let (before, after) = (hex(&exchanged.before), hex(&exchanged.after));
    let (gva, gpa) = (order.gva, site.start().gpa);
    Err(InjectError::MovedAfter { gva, gpa, before, after, restored })
}

/// What the kernel says of each page of `site`; `None` where it does not, or a page is free.
fn owners(space: Space, site: &Site) -> Option<Vec<PageFacts>> {
    let (kernel, memory) = (space.guest().kernel(), space.guest().memory());
    let facts = site.pieces().map(|piece| kernel.page(memory, piece.gpa).ok()?);
    facts.map(|facts| facts.filter(|facts| !facts.free)).collect()
}

/// Puts back what was replaced, wherever what was written still is. Tells whether it was everywhere.
fn restore(memory: &dyn GuestMemory, site: &Site, done: &Exchanged) -> bool {
    let (mut start, mut all) = (0, true);
    for word in words(site) {
        let part = start..start + word.bytes.len();
        start = part.end;
        let (before, after) = (&done.before[part.clone()], &done.after[part]);
        let put = |now: &[u8]| if now == after { before.to_vec() } else { now.to_vec() };
        all &= word.exchange(memory, 0, put).is_ok_and(|found| found == after);
    }
    all
}

/// What was replaced by what.
struct Exchanged {
    before: Vec<u8>,
    after: Vec<u8>,
}

fn exchange(
    memory: &dyn GuestMemory,
    site: &Site,
    fault: &Fault,
) -> Result<Exchanged, InjectError> {
    let words = words(site);
    if let [only] = words.as_slice() {
        let mut after = Vec::new();
        let before = only.exchange(memory, 0, |before| {
            after = fault.apply(before);
            after.clone()
        })?;
        return Ok(Exchanged { before, after });
    }
    let after = fault.apply(&read(memory, site)?);
    let mut before = Vec::new();
    for word in words {
        let done = before.len();
        let part = after[done..done + word.bytes.len()].to_vec();
        before.extend(word.exchange(memory, done, |_| part.clone())?);
    }
    Ok(Exchanged { before, after })
}

/// The bytes of a site that lie in one aligned word.
#[derive(Clone, Debug, PartialEq, Eq)]
struct WordPart {
    at: Gpa,
    bytes: Range<usize>,
}

impl WordPart {
    /// Replaces the bytes by what `change` makes of them, in one compare-and-exchange of the word,
    /// so that the guest sees all of it or nothing and no newer value is lost. Gives what was
    /// replaced; `done` bytes of the site have been written before.
    fn exchange(
        &self,
        memory: &dyn GuestMemory,
        done: usize,
        mut change: impl FnMut(&[u8]) -> Vec<u8>,
    ) -> Result<Vec<u8>, InjectError> {
        let mut current = memory.load(self.at)?;
        for _ in 0..TRIES {
            let mut bytes = current.to_le_bytes();
            let before = bytes[self.bytes.clone()].to_vec();
            bytes[self.bytes.clone()].copy_from_slice(&change(&before));
            match memory.compare_exchange(self.at, current, u64::from_le_bytes(bytes))? {
                Ok(()) => return Ok(before),
                Err(newer) => current = newer,
            }
        }
        Err(InjectError::Contended(self.at, done))
    }
}

fn words(site: &Site) -> Vec<WordPart> {
    let mut words = Vec::new();
    for piece in site.pieces() {
        let end = piece.gpa.0 + piece.length;
        let mut at = piece.gpa.0;
        while at < end {
            let word = at - at % WORD;
            let stop = end.min(word + WORD);
            words.push(WordPart {
                at: Gpa(word),
                bytes: (at - word) as usize..(stop - word) as usize,
            });
            at = stop;
        }
    }
    words
}

/// The bytes of a site now.
pub fn read(memory: &dyn GuestMemory, site: &Site) -> Result<Vec<u8>, MemoryError> {
    let mut bytes = Vec::new();
    for word in words(site) {
        bytes.extend_from_slice(&memory.load(word.at)?.to_le_bytes()[word.bytes]);
    }
    Ok(bytes)
}

fn receipt(
    space: Space,
    order: &Injection,
    site: &Site,
    exchanged: Exchanged,
    read_back: Option<Vec<u8>>,
) -> Receipt {
    let now = clock_gettime(ClockId::Monotonic);
    let Exchanged { before, after } = exchanged;
    let guest = space.guest();
    Receipt {
        pid: order.pid,
        victim_pid: space.pid(),
        comm: space.name().to_owned(),
        symbol: order.symbol.to_owned(),
        offset: order.offset,
        gva: order.gva.0,
        gpa: site.start().gpa.0,
        size: after.len(),
        overwritten: read_back.as_ref().is_some_and(|found| *found != after),
        before,
        after,
        read_back,
        atomic: order.pause.is_some()
            || words(site).len() == 1 && guest.memory().atomic(site.start().gpa),
        seed: order.seed,
        drawn: order.drawn.clone(),
        verdict: site.verdict(),
        effect_unproven: site.code() && guest.runs_natively() != Some(true),
        paused: order.pause.is_some() && !order.dry_run,
        time: jiff::Timestamp::now().to_string(),
        monotonic_ns: now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Image, Region, RegionMap};
    use crate::site::Piece;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn image() -> Image {
        let region = Region { gpa: Gpa(0), length: 0x4000, source: 0, offset: 0 };
        let image = Image::new(RegionMap::new(vec![region]).unwrap());
        image.write(Gpa(0x0ff0), &(0x10..0x40).collect::<Vec<u8>>()).unwrap();
        image
    }

    fn site(pieces: &[(u64, u64)]) -> Site {
        let piece = |&(gpa, length)| Piece {
            gva: Gva(gpa),
            gpa: Gpa(gpa),
            length,
            verdict: Verdict::Anonymous,
            code: false,
        };
        Site::of_pieces(piece(&pieces[0]), pieces[1..].iter().map(piece).collect())
    }

    fn set(memory: &Image, site: &Site, bytes: &[u8]) -> Exchanged {
        exchange(memory, site, &Fault::Set(bytes.to_vec())).unwrap()
    }

    #[test]
    fn bytes_within_a_word_are_one_exchange_that_spares_their_neighbours() {
        let (memory, site) = (image(), site(&[(0xff2, 4)]));
        assert_eq!(words(&site).len(), 1);
        assert_eq!(set(&memory, &site, &[1, 2, 3, 4]).before, [0x12, 0x13, 0x14, 0x15]);
        let mut around = [0; 8];
        memory.read(Gpa(0xff0), &mut around).unwrap();
        assert_eq!(around, [0x10, 0x11, 1, 2, 3, 4, 0x16, 0x17]);
    }

    #[test]
    fn a_value_across_pages_lands_in_both() {
        let (memory, site) = (image(), site(&[(0xffd, 3), (0x3000, 5)]));
        assert_eq!(words(&site).len(), 2);
        let exchanged = set(&memory, &site, &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(exchanged.before, [0x1d, 0x1e, 0x1f, 0, 0, 0, 0, 0]);
        assert_eq!(read(&memory, &site).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(memory.load(Gpa(0x1000)).unwrap() as u8, 0x20, "the page between is untouched");
    }

    #[test]
    fn what_was_written_is_taken_back_unless_it_changed_since() {
        let (memory, site) = (image(), site(&[(0xffd, 3), (0x3000, 5)]));
        let before = read(&memory, &site).unwrap();
        let exchanged = set(&memory, &site, &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(restore(&memory, &site, &exchanged));
        assert_eq!(read(&memory, &site).unwrap(), before);
        // Somebody has written to the second page since.
        let exchanged = set(&memory, &site, &[1, 2, 3, 4, 5, 6, 7, 8]);
        memory.write(Gpa(0x3004), &[99]).unwrap();
        assert!(!restore(&memory, &site, &exchanged));
        let left = read(&memory, &site).unwrap();
        assert_eq!((&left[..3], &left[3..]), (&before[..3], &[4, 5, 6, 7, 99][..]));
    }

    #[test]
    fn a_newer_value_is_never_lost() {
        /// RAM whose guest stores to the word between each load and the exchange, some times.
        struct Busy(Image, AtomicU64);
        impl GuestMemory for Busy {
            fn regions(&self) -> &RegionMap {
                self.0.regions()
            }
            fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), MemoryError> {
                self.0.read(at, into)
            }
            fn load(&self, at: Gpa) -> Result<u64, MemoryError> {
                self.0.load(at)
            }
            fn compare_exchange(
                &self,
                at: Gpa,
                current: u64,
                new: u64,
            ) -> Result<Result<(), u64>, MemoryError> {
                if self.1.load(Ordering::SeqCst) > 0 {
                    self.1.fetch_sub(1, Ordering::SeqCst);
                    self.0.store(at, self.0.load(at)?.wrapping_add(1 << 56))?;
                }
                self.0.compare_exchange(at, current, new)
            }
        }
        let busy = Busy(image(), AtomicU64::new(3));
        let at = site(&[(0xff0, 4)]);
        let exchanged = exchange(&busy, &at, &Fault::Set(vec![9; 4])).unwrap();
        assert_eq!(exchanged.before, [0x10, 0x11, 0x12, 0x13]);
        assert_eq!(busy.load(Gpa(0xff0)).unwrap(), 0x1a16_1514_0909_0909);
        let endless = Busy(image(), AtomicU64::new(u64::MAX));
        let result = exchange(&endless, &at, &Fault::Set(vec![9; 4]));
        assert!(matches!(result, Err(InjectError::Contended(..))));
    }
}
