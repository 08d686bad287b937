//! What the program prints: passed on, and the last of it kept for the host.

use crate::status::{get, set};
use crate::sys;
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{Ordering, fence};

/// Bytes that are kept. What of it is never filled takes no memory.
const STDOUT_KEPT: usize = 1 << 20;
const STDERR_KEPT: usize = 64 << 10;
/// Bytes that are read at once.
const PART: usize = 4096;
/// Of FNV-1a, 64 bits.
const HASH: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x100_0000_01b3;

struct Ring<const SIZE: usize>(UnsafeCell<[u8; SIZE]>);

// SAFETY: the wrapper has one thread; the host looks from outside.
unsafe impl<const SIZE: usize> Sync for Ring<SIZE> {}

static STDOUT: Ring<STDOUT_KEPT> = Ring(UnsafeCell::new([0; STDOUT_KEPT]));
static STDERR: Ring<STDERR_KEPT> = Ring(UnsafeCell::new([0; STDERR_KEPT]));

/// The two pipes that the program prints into.
pub struct Pipes {
    stdout: [i32; 2],
    stderr: [i32; 2],
}

impl Pipes {
    /// New ones; none where the kernel has none to give.
    pub fn new() -> Option<Self> {
        let pipes = Self { stdout: sys::pipe()?, stderr: sys::pipe()? };
        sys::set_nonblocking(pipes.stdout[0]);
        sys::set_nonblocking(pipes.stderr[0]);
        set!(stdout.address, STDOUT.0.get() as u64);
        set!(stdout.size, STDOUT_KEPT as u64);
        set!(stdout.hash, HASH);
        set!(stderr.address, STDERR.0.get() as u64);
        set!(stderr.size, STDERR_KEPT as u64);
        set!(stderr.hash, HASH);
        Some(pipes)
    }

    /// In the child: prints into them from now on.
    pub fn print_into(&self) {
        sys::duplicate(self.stdout[1], crate::STDOUT);
        sys::duplicate(self.stderr[1], crate::STDERR);
    }

    /// In the parent: reads only.
    pub fn read_only(&mut self) {
        sys::close(self.stdout[1]);
        sys::close(self.stderr[1]);
    }

    /// The ends that are read, none where a pipe is closed: negative, as poll(2) leaves it out.
    pub fn ends(&self) -> [i32; 2] {
        [self.stdout[0], self.stderr[0]]
    }

    /// Passes on what is in them now.
    pub fn drain(&mut self) {
        drain(&mut self.stdout[0], crate::STDOUT, keep_stdout);
        drain(&mut self.stderr[0], crate::STDERR, keep_stderr);
    }
}

fn drain(end: &mut i32, to: usize, keep: fn(&[u8])) {
    let mut part = [0; PART];
    loop {
        match sys::read(*end, &mut part) {
            Ok(0) => {
                sys::close(*end);
                *end = -1;
                return;
            }
            Ok(length) => {
                let read = part.get(..length).unwrap_or(&[]);
                keep(read);
                sys::write(to, read);
            }
            Err(_) => return,
        }
    }
}

fn keep_stdout(bytes: &[u8]) {
    let (total, hash) = keep(&STDOUT, (get!(stdout.total), get!(stdout.hash)), bytes);
    set!(stdout.hash, hash);
    set!(stdout.total, total);
}

fn keep_stderr(bytes: &[u8]) {
    let (total, hash) = keep(&STDERR, (get!(stderr.total), get!(stderr.hash)), bytes);
    set!(stderr.hash, hash);
    set!(stderr.total, total);
}

/// Appends `bytes` to what is kept; gives how much it is then in all, and its hash.
fn keep<const SIZE: usize>(
    ring: &Ring<SIZE>,
    (mut total, mut hash): (u64, u64),
    bytes: &[u8],
) -> (u64, u64) {
    let start = ring.0.get().cast::<u8>();
    for &byte in bytes {
        // SAFETY: within the ring, of which no reference exists.
        unsafe { ptr::write(start.add(total as usize % SIZE), byte) };
        hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        total += 1;
    }
    // The host sees no byte counted that is not there.
    fence(Ordering::Release);
    (total, hash)
}
