//! The one write path of the whole program: locate, revalidate, write, read back, receipt.

use crate::address::{Gpa, Gva};
use crate::fault::Fault;
use crate::guest::GuestError;
use crate::memory::{GuestMemory, MemoryError, WORD};
use crate::process::{self, ProcessError};
use crate::site::{Site, SiteError, Verdict};
use crate::victim::VictimMemory;
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
        "the page of {gva} moved while it was written: {after} was written over {before} at guest-physical {gpa}, and may not have reached the victim"
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
    },
    /// The victim writes the word faster than it can be exchanged.
    #[error("the bytes at guest-physical {0} change too fast to be replaced; {1} were written")]
    Contended(Gpa, usize),
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
    /// Whether the page must be the victim's own.
    pub verdict: Verdict,
    /// All but the write.
    pub dry_run: bool,
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
    /// The seed that drew the fault.
    pub seed: Option<u64>,
    /// When, in RFC 3339.
    pub time: String,
    /// When, on the host's monotonic clock.
    pub monotonic_ns: u64,
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
pub fn inject(victim: &VictimMemory, order: &Injection) -> Result<Receipt, InjectError> {
    let size = order.fault.size() as u64;
    let locate = || Site::locate(victim, order.gva, size, order.verdict);
    let site = locate()?;
    let memory = victim.guest.memory();
    if order.dry_run {
        let before = read(memory, &site)?;
        let after = order.fault.apply(&before);
        return Ok(receipt(victim, order, &site, Exchanged { before, after }, None));
    }
    // What a kernel that is gone left in RAM proves itself just as well.
    if order.verdict == Verdict::Required && !victim.guest.runs() {
        return Err(InjectError::StandsStill);
    }
    // First, for the rest is read through what was mapped.
    victim.guest.ram_still_there()?;
    process::still_runs(victim.guest, &victim.task)?;
    if locate().ok().as_ref() != Some(&site) {
        return Err(InjectError::MovedBefore(order.gva));
    }
    let exchanged = exchange(memory, &site, &order.fault)?;
    let read_back = read(memory, &site)?;
    let receipt = receipt(victim, order, &site, exchanged, Some(read_back));
    let moved = victim.guest.ram_still_there().is_err();
    if moved || locate().ok().as_ref() != Some(&site) {
        let (before, after) = (hex(&receipt.before), hex(&receipt.after));
        let (gva, gpa) = (order.gva, Gpa(receipt.gpa));
        return Err(InjectError::MovedAfter { gva, gpa, before, after });
    }
    Ok(receipt)
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
    victim: &VictimMemory,
    order: &Injection,
    site: &Site,
    exchanged: Exchanged,
    read_back: Option<Vec<u8>>,
) -> Receipt {
    let now = clock_gettime(ClockId::Monotonic);
    let Exchanged { before, after } = exchanged;
    Receipt {
        pid: order.pid,
        victim_pid: victim.task.pid,
        comm: victim.task.comm.clone(),
        symbol: order.symbol.to_owned(),
        offset: order.offset,
        gva: order.gva.0,
        gpa: site.start().gpa.0,
        size: after.len(),
        overwritten: read_back.as_ref().is_some_and(|found| *found != after),
        before,
        after,
        read_back,
        atomic: words(site).len() == 1 && victim.guest.memory().atomic(site.start().gpa),
        seed: order.seed,
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
        let piece = |&(gpa, length)| Piece { gva: Gva(gpa), gpa: Gpa(gpa), length };
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
