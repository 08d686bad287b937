//! The bytes of a site, read and replaced word by word.
//!
//! What lies in one aligned word is replaced in one compare-and-exchange against what was just read:
//! the guest sees all of it or nothing, and no newer value is lost.

use super::InjectError;
use crate::address::Gpa;
use crate::fault::Fault;
use crate::memory::{GuestMemory, MemoryError, WORD};
use crate::site::Site;
use std::ops::Range;

/// How often a word that the victim keeps changing is tried again.
const TRIES: usize = 100_000;

/// What was replaced by what.
#[derive(Clone, Debug)]
pub struct Exchanged {
    /// What was really there.
    pub before: Vec<u8>,
    /// What was put there.
    pub after: Vec<u8>,
}

/// Does `fault` to what is at `site` at that instant.
pub fn exchange(
    memory: &dyn GuestMemory,
    site: &Site,
    fault: &Fault,
) -> Result<Exchanged, InjectError> {
    let mut done = Exchanged { before: Vec::new(), after: Vec::new() };
    for word in words(site) {
        let part = fault.part(done.before.len(), word.bytes.len());
        let before = word.exchange(memory, done.before.len(), |now| part.apply(now))?;
        done.after.extend(part.apply(&before));
        done.before.extend(before);
    }
    Ok(done)
}

/// Puts back what was replaced, wherever what was written still is. Tells whether it was everywhere.
pub fn restore(memory: &dyn GuestMemory, site: &Site, done: &Exchanged) -> bool {
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

/// The bytes of a site that lie in one aligned word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordPart {
    /// Where the word lies.
    pub at: Gpa,
    /// Which of its bytes.
    pub bytes: Range<usize>,
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

/// The words that a site lies in, in ascending order.
pub fn words(site: &Site) -> Vec<WordPart> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Gva;
    use crate::memory::{Image, Region, RegionMap};
    use crate::site::{Piece, Verdict};
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
        exchange(memory, site, &Fault::set(bytes.to_vec())).unwrap()
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
    fn bits_are_flipped_in_what_is_there_at_that_instant() {
        let (memory, site) = (image(), site(&[(0xffd, 3), (0x3000, 5)]));
        let mask: Vec<_> = (1..=8).collect();
        let flip = Fault::masks(0, vec![0xff; 8], mask).unwrap();
        let done = exchange(&memory, &site, &flip).unwrap();
        assert_eq!(done.before, [0x1d, 0x1e, 0x1f, 0, 0, 0, 0, 0]);
        assert_eq!(done.after, [0x1c, 0x1c, 0x1c, 4, 5, 6, 7, 8]);
        exchange(&memory, &site, &flip).unwrap();
        assert_eq!(read(&memory, &site).unwrap(), done.before);
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
        let exchanged = exchange(&busy, &at, &Fault::set(vec![9; 4])).unwrap();
        assert_eq!(exchanged.before, [0x10, 0x11, 0x12, 0x13]);
        assert_eq!(busy.load(Gpa(0xff0)).unwrap(), 0x1a16_1514_0909_0909);
        let endless = Busy(image(), AtomicU64::new(u64::MAX));
        let result = exchange(&endless, &at, &Fault::set(vec![9; 4]));
        assert!(matches!(result, Err(InjectError::Contended(..))));
    }
}
