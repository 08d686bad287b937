//! The few system calls that the wrapper makes, and printing without libc.

use crate::arch::{number, syscall};
use core::ptr;

/// Signal numbers and sets, as the kernel has them on every architecture that Linux names them
/// alike on.
pub const SIGINT: i32 = 2;
pub const SIGKILL: i32 = 9;
pub const SIGTERM: i32 = 15;
pub const SIGCHLD: i32 = 17;

const SIG_BLOCK: usize = 0;
const SIG_SETMASK: usize = 2;
const CLOCK_MONOTONIC: usize = 1;
const WNOHANG: usize = 1;
/// Also children that are no plain forks, as traced ones may start.
const WALL: usize = 0x4000_0000;
/// Bytes of the kernel's signal set.
const SIGNAL_SET: usize = 8;
const CLOEXEC: usize = 0o2_000_000;
const NONBLOCK: usize = 0o4000;
const F_SETFL: usize = 4;
const POLLIN: u16 = 1;
/// Of ptrace(2).
const PTRACE_CONT: usize = 7;
const PTRACE_GETEVENTMSG: usize = 0x4201;
const PTRACE_SEIZE: usize = 0x4206;
const PTRACE_LISTEN: usize = 0x4208;
/// Stop it once a program is loaded, and before it gives its memory back; and where we end, let it run
/// on.
const TRACE_EXEC_AND_EXIT: usize = 1 << 4 | 1 << 6;
const ADDR_NO_RANDOMIZE: usize = 0x4_0000;
/// What asks personality(2) what it is.
const ASK: usize = 0xffff_ffff;

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

/// What a child did.
pub enum Change {
    /// It has ended, with this wait status and so much CPU time.
    Ended { status: i32, cpu_ns: u64 },
    /// It was stopped for us, who trace it.
    Stopped { signal: i32, event: i32 },
}

/// The child's next change, if there was one.
pub fn wait_for(process: i32) -> Option<Change> {
    let mut status = 0i32;
    // `struct rusage`: user and system time, each in s and us, and 14 more words.
    let mut used = [0i64; 18];
    let (status_at, used_at) =
        (ptr::addr_of_mut!(status) as usize, ptr::addr_of_mut!(used) as usize);
    // SAFETY: both are written, and large enough.
    let changed = unsafe {
        syscall(number::WAIT4, [process as usize, status_at, WNOHANG | WALL, used_at, 0])
    };
    if changed != process as isize {
        return None;
    }
    if status & 0xff == 0x7f {
        return Some(Change::Stopped { signal: status >> 8 & 0xff, event: status >> 16 });
    }
    let us = (used[0] + used[2]) * 1_000_000 + used[1] + used[3];
    Some(Change::Ended { status, cpu_ns: us as u64 * 1000 })
}

/// Signals that wait until they are asked for.
pub struct Signals {
    /// Readable while one waits.
    pub descriptor: i32,
    before: u64,
}

impl Signals {
    /// Blocks these.
    pub fn block(signals: &[i32]) -> Self {
        let set = signals.iter().fold(0u64, |set, signal| set | 1 << (signal - 1));
        let mut before = 0;
        mask(SIG_BLOCK, &set, &mut before);
        let at = ptr::addr_of!(set) as usize;
        // SAFETY: the set has the size given.
        let descriptor = unsafe {
            syscall(number::SIGNALFD4, [usize::MAX, at, SIGNAL_SET, CLOEXEC | NONBLOCK, 0])
        };
        Self { descriptor: descriptor as i32, before }
    }

    /// Blocks what was blocked before.
    pub fn restore(&self) {
        mask(SIG_SETMASK, &self.before, &mut 0);
    }

    /// The next of them, if one waits.
    pub fn next(&self) -> Option<i32> {
        // `struct signalfd_siginfo`, which begins with the number.
        let mut told = [0u8; 128];
        read(self.descriptor, &mut told).ok()?;
        let [a, b, c, d, ..] = told;
        Some(i32::from_le_bytes([a, b, c, d]))
    }
}

fn mask(how: usize, set: &u64, before: &mut u64) {
    let (set, before) = (ptr::from_ref(set) as usize, ptr::from_mut(before) as usize);
    // SAFETY: both sets have the size given.
    unsafe { syscall(number::RT_SIGPROCMASK, [how, set, before, SIGNAL_SET, 0]) };
}

/// Waits until one of `descriptors` has something; negative ones are left out.
pub fn poll(descriptors: [i32; 3]) {
    /// `struct pollfd`.
    #[repr(C)]
    struct Polled(i32, u16, u16);
    let mut all = descriptors.map(|descriptor| Polled(descriptor, POLLIN, 0));
    let forever = usize::MAX;
    // SAFETY: three of them are there, and written.
    unsafe { syscall(number::POLL, [all.as_mut_ptr() as usize, all.len(), forever, 0, 0]) };
}

pub fn sleep_ms(ms: u64) {
    let time = [0, ms * 1_000_000];
    // SAFETY: `time` is a timespec; what is left of it is not asked for.
    unsafe { syscall(number::NANOSLEEP, [ptr::addr_of!(time) as usize, 0, 0, 0, 0]) };
}

/// How many bytes were read into `bytes`, or a negative error number.
pub fn read(descriptor: i32, bytes: &mut [u8]) -> Result<usize, isize> {
    let (at, length) = (bytes.as_mut_ptr() as usize, bytes.len());
    // SAFETY: `bytes` is writable for its length.
    let result = unsafe { syscall(number::READ, [descriptor as usize, at, length, 0, 0]) };
    usize::try_from(result).map_err(|_| result)
}

/// A pipe: the end that is read, and the one that is written. A program that is started has neither.
pub fn pipe() -> Option<[i32; 2]> {
    let mut ends = [0i32; 2];
    // SAFETY: both ends are written.
    let made = unsafe { syscall(number::PIPE2, [ends.as_mut_ptr() as usize, CLOEXEC, 0, 0, 0]) };
    (made == 0).then_some(ends)
}

/// Has reads from `descriptor` fail where there is nothing to read.
pub fn set_nonblocking(descriptor: i32) {
    // SAFETY: takes plain numbers.
    unsafe { syscall(number::FCNTL, [descriptor as usize, F_SETFL, NONBLOCK, 0, 0]) };
}

pub fn duplicate(descriptor: i32, as_this: usize) {
    // SAFETY: takes plain numbers.
    unsafe { syscall(number::DUP2, [descriptor as usize, as_this, 0, 0, 0]) };
}

pub fn close(descriptor: i32) {
    // SAFETY: what is closed is used no more.
    unsafe { syscall(number::CLOSE, [descriptor as usize, 0, 0, 0, 0]) };
}

/// From the next exec on, this process's addresses are not drawn at random.
pub fn fix_addresses() {
    // SAFETY: takes plain numbers.
    unsafe {
        let now = syscall(number::PERSONALITY, [ASK, 0, 0, 0, 0]);
        syscall(number::PERSONALITY, [now as usize | ADDR_NO_RANDOMIZE, 0, 0, 0, 0]);
    }
}

/// Traces `process`, so that it stops when it is loaded and when it ends; whether that may be.
pub fn trace(process: i32) -> bool {
    ptrace(PTRACE_SEIZE, process, TRACE_EXEC_AND_EXIT) == 0
}

/// Lets a stopped process go on, with this signal if it is not 0.
pub fn go_on(process: i32, signal: i32) {
    ptrace(PTRACE_CONT, process, signal as usize);
}

/// Leaves a process stopped that a signal has stopped.
pub fn stay_stopped(process: i32) {
    ptrace(PTRACE_LISTEN, process, 0);
}

/// The wait status with which a process is ending that is stopped there.
pub fn exit_message(process: i32) -> i32 {
    let mut message = 0u64;
    ptrace(PTRACE_GETEVENTMSG, process, ptr::addr_of_mut!(message) as usize);
    message as i32
}

fn ptrace(request: usize, process: i32, data: usize) -> isize {
    // SAFETY: of these requests only GETEVENTMSG writes, to the word that `data` then is.
    unsafe { syscall(number::PTRACE, [request, process as usize, 0, data, 0]) }
}
