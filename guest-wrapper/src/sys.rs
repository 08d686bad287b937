//! The few system calls that the wrapper makes, and printing without libc.

use crate::arch::{number, syscall};
use core::ptr;

/// Signal numbers and sets, as the kernel has them on every architecture that Linux names them
/// alike on.
pub const SIGINT: i32 = 2;
pub const SIGTERM: i32 = 15;
pub const SIGCHLD: i32 = 17;

const SIG_BLOCK: usize = 0;
const SIG_SETMASK: usize = 2;
const CLOCK_MONOTONIC: usize = 1;
const WNOHANG: usize = 1;
/// Bytes of the kernel's signal set.
const SIGNAL_SET: usize = 8;

/// A pointer of the program's start stack, as a list that ends with null.
pub type Strings = *const *const u8;

pub fn write(descriptor: usize, text: &[u8]) {
    let mut rest = text;
    while !rest.is_empty() {
        // SAFETY: `rest` is readable for its length.
        let written = unsafe {
            syscall(number::WRITE, [descriptor, rest.as_ptr() as usize, rest.len(), 0, 0])
        };
        match usize::try_from(written) {
            Ok(written) if written > 0 => rest = rest.get(written..).unwrap_or(&[]),
            _ => return,
        }
    }
}

pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: ends the process.
        unsafe { syscall(number::EXIT_GROUP, [status as usize, 0, 0, 0, 0]) };
    }
}

pub fn process_id() -> i32 {
    // SAFETY: has no arguments.
    unsafe { syscall(number::GETPID, [0; 5]) as i32 }
}

pub fn monotonic_ns() -> u64 {
    let mut time = [0i64; 2];
    // SAFETY: `time` is a timespec.
    unsafe {
        syscall(number::CLOCK_GETTIME, [CLOCK_MONOTONIC, ptr::addr_of_mut!(time) as usize, 0, 0, 0])
    };
    time[0] as u64 * 1_000_000_000 + time[1] as u64
}

/// 0 in the child, its process id in the parent, or a negative error number.
pub fn fork() -> isize {
    // SAFETY: clone with no shared memory and no new stack is fork.
    unsafe { syscall(number::CLONE, [SIGCHLD as usize, 0, 0, 0, 0]) }
}

/// Returns only with an error number, negative.
pub fn execve(path: *const u8, arguments: Strings, environment: Strings) -> isize {
    // SAFETY: a string and two lists that end with null, from the start stack or a path buffer.
    unsafe {
        syscall(number::EXECVE, [path as usize, arguments as usize, environment as usize, 0, 0])
    }
}

pub fn kill(process: i32, signal: i32) {
    // SAFETY: takes plain numbers.
    unsafe { syscall(number::KILL, [process as usize, signal as usize, 0, 0, 0]) };
}

/// The child's wait status, once it has ended.
pub fn wait_for(process: i32) -> Option<i32> {
    let mut status = 0i32;
    // SAFETY: `status` is written.
    let ended = unsafe {
        syscall(
            number::WAIT4,
            [process as usize, ptr::addr_of_mut!(status) as usize, WNOHANG, 0, 0],
        )
    };
    (ended == process as isize).then_some(status)
}

/// A set of the given signals.
pub fn signal_set(signals: &[i32]) -> u64 {
    signals.iter().fold(0, |set, signal| set | 1 << (signal - 1))
}

/// Blocks the signals of `set`; gives those that were blocked before.
pub fn block(set: u64) -> u64 {
    let mut before = 0u64;
    mask(SIG_BLOCK, &set, &mut before);
    before
}

/// Blocks exactly the signals of `set`.
pub fn set_mask(set: u64) {
    mask(SIG_SETMASK, &set, &mut 0);
}

fn mask(how: usize, set: &u64, before: &mut u64) {
    let (set, before) = (ptr::from_ref(set) as usize, ptr::from_mut(before) as usize);
    // SAFETY: both sets have the size given.
    unsafe { syscall(number::RT_SIGPROCMASK, [how, set, before, SIGNAL_SET, 0]) };
}

/// Waits for one of the blocked signals of `set`; negative where another interrupted.
pub fn wait_signal(set: u64) -> i32 {
    let set = ptr::addr_of!(set) as usize;
    // SAFETY: the set has the size given; no information and no time limit are asked for.
    unsafe { syscall(number::RT_SIGTIMEDWAIT, [set, 0, 0, SIGNAL_SET, 0]) as i32 }
}
