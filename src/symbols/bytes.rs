//! A file's bytes, all of which need not be there: a guest keeps of a file what was used of it.

/// What is there, is there in whole pages.
const PAGE: u64 = 4096;
/// After so many pages that are missing, the others are not looked for: a sparse file may have any
/// number, and of a program that lacks so much little is known anyway.
const MOST_MISSING: usize = 8192;

/// A file, of which pages may be missing.
pub trait FileBytes {
    /// Bytes of the file.
    fn size(&self) -> u64;

    /// Copies its bytes from `offset` on, which lie in one page, into `into`; tells whether they
    /// are there.
    fn copy(&self, offset: u64, into: &mut [u8]) -> bool;

    /// What a process has at the link-time address `address` of the file: a part in which the
    /// loader may have made the addresses those of the process.
    fn loaded(&self, _address: u64, _length: u64) -> Option<Loaded> {
        None
    }
}

/// A part of a program as a process has it.
pub struct Loaded {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What the loader added to each address.
    pub bias: u64,
}

impl FileBytes for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn copy(&self, offset: u64, into: &mut [u8]) -> bool {
        let from = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        let from = from.and_then(|from| from.get(..into.len()));
        from.map(|from| into.copy_from_slice(from)).is_some()
    }
}

/// A part of a file, page by page.
pub struct Part {
    bytes: Vec<u8>,
    /// Which bytes of it are missing: each a range, in their order.
    missing: Vec<std::ops::Range<usize>>,
}

impl Part {
    /// The `length` bytes from `offset` on; `None` where the file does not reach so far.
    pub fn read(file: &dyn FileBytes, offset: u64, length: u64) -> Option<Self> {
        Self::read_unless(file, offset, length, MOST_MISSING)
    }

    /// The same, up to the page that misses when `most` already do.
    fn read_unless(file: &dyn FileBytes, offset: u64, length: u64, most: usize) -> Option<Self> {
        offset.checked_add(length).filter(|&end| end <= file.size())?;
        let mut part = Self { bytes: vec![0; usize::try_from(length).ok()?], missing: Vec::new() };
        let mut done = 0;
        while done < length {
            if part.missing.len() > most {
                part.missing.push(done as usize..length as usize);
                break;
            }
            let at = offset + done;
            let next = (length - done).min(PAGE - at % PAGE);
            let range = done as usize..(done + next) as usize;
            if !file.copy(at, &mut part.bytes[range.clone()]) {
                part.missing.push(range);
            }
            done += next;
        }
        Some(part)
    }

    /// Those bytes, where all of them are there.
    pub fn whole(file: &dyn FileBytes, offset: u64, length: u64) -> Option<Vec<u8>> {
        // The first page tells of most parts that are not there.
        file.copy(offset, &mut [0]).then_some(())?;
        let part = Self::read_unless(file, offset, length, 0)?;
        part.is_whole().then_some(part.bytes)
    }

    /// Bytes of it, those included that are missing.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether no byte of it is missing.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }

    /// `length` bytes from `at` on, counted from its start; `None` where one is missing.
    pub fn get(&self, at: u64, length: u64) -> Option<&[u8]> {
        let start = usize::try_from(at).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        let first = self.missing.partition_point(|missing| missing.end <= start);
        let there = self.missing.get(first).is_none_or(|missing| missing.start >= end);
        self.bytes.get(start..end).filter(|_| there)
    }

    /// The text at `at` up to a zero, at most `longest` bytes of it.
    pub fn text(&self, at: u64, longest: usize) -> Option<&str> {
        let start = usize::try_from(at).ok()?;
        let rest = self.bytes.get(start..)?;
        let length = memchr::memchr(0, &rest[..rest.len().min(longest + 1)])?;
        std::str::from_utf8(self.get(at, length as u64 + 1)?.strip_suffix(b"\0")?).ok()
    }

    /// The little-endian 16-bit value at `at`.
    pub fn u16(&self, at: u64) -> Option<u16> {
        Some(u16::from_le_bytes(self.get(at, 2)?.try_into().ok()?))
    }

    /// The little-endian 32-bit value at `at`.
    pub fn u32(&self, at: u64) -> Option<u32> {
        Some(u32::from_le_bytes(self.get(at, 4)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three pages, of which the second is missing.
    struct Holed;

    impl FileBytes for Holed {
        fn size(&self) -> u64 {
            3 * PAGE
        }

        fn copy(&self, offset: u64, into: &mut [u8]) -> bool {
            into.fill(b'a');
            offset / PAGE != 1
        }
    }

    #[test]
    fn what_is_missing_is_not_given() {
        let part = Part::read(&Holed, 16, 3 * PAGE - 16).unwrap();
        assert!(!part.is_whole());
        assert_eq!(part.get(0, PAGE - 16).unwrap().len(), 4080);
        assert!(part.get(0, PAGE - 15).is_none());
        assert!(part.get(2 * PAGE - 17, 1).is_none());
        assert!(part.get(2 * PAGE - 16, PAGE).is_some());
        assert!(part.get(2 * PAGE - 16, PAGE + 1).is_none());
        assert!(part.get(u64::MAX, 2).is_none());
        assert!(Part::whole(&Holed, 0, PAGE + 1).is_none());
        assert!(Part::whole(&Holed, 0, PAGE).is_some());
        assert!(Part::read(&Holed, PAGE, u64::MAX).is_none());
    }

    /// 1 GiB of which nothing is there, and how often that was asked.
    struct Sparse(std::cell::Cell<usize>);

    impl FileBytes for Sparse {
        fn size(&self) -> u64 {
            1 << 30
        }

        fn copy(&self, offset: u64, _: &mut [u8]) -> bool {
            self.0.set(self.0.get() + 1);
            offset == 0
        }
    }

    #[test]
    fn a_sparse_file_is_given_up() {
        let file = Sparse(std::cell::Cell::new(0));
        assert!(Part::whole(&file, 0, file.size()).is_none());
        assert!(file.0.get() < 5, "{}", file.0.get());
        let part = Part::read(&file, 0, file.size()).unwrap();
        assert!(file.0.get() < MOST_MISSING + 10, "{}", file.0.get());
        assert!(part.get(0, PAGE).is_some() && part.get(PAGE, 1).is_none());
        assert!(part.get(file.size() - 1, 1).is_none());
    }

    #[test]
    fn text_ends_at_a_zero_that_is_there() {
        let part = Part::read(&b"abc\0def".to_vec(), 0, 7).unwrap();
        assert_eq!(part.text(1, 9), Some("bc"));
        assert_eq!(part.text(1, 1), None);
        assert_eq!(part.text(4, 9), None);
        assert_eq!(part.text(9, 9), None);
    }
}
