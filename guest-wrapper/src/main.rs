//! The launcher inside the guest.
//!
//!     wrapper <executable> [args]
//!
//! Prints its own process id, starts the program, prints the child's, passes SIGTERM and SIGINT
//! on, and ends as the child did: its status, or 128 + signal. Its name in the task list is the
//! marker that the host looks for, and its status block (see `status`) tells the host the rest.
//!
//! No libc and no allocation, so that it runs in any guest and stays out of the way.

#![no_std]
#![no_main]
#![no_builtins]

mod arch;
mod mem;
mod status;
mod sys;

use core::ffi::CStr;
use status::{ENDED, RUNNING, set, vmfi_wrapper_status};
use sys::{SIGCHLD, SIGINT, SIGTERM, Strings};

const USAGE: &[u8] = b"usage: wrapper <executable> [args]\n\
    Starts the program as a child that vmfi finds from outside the guest.\n";
const EXIT_USAGE: i32 = 2;
const EXIT_CANNOT_EXECUTE: i32 = 127;
const STDOUT: usize = 1;
const STDERR: usize = 2;
/// A path of PATH with the program's name must fit.
const PATH_LIMIT: usize = 4096;
const ENOENT: isize = -2;
const EACCES: isize = -13;
const ENOEXEC: isize = -8;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    sys::exit(1)
}

/// Called by the entry point with the start stack: argc, the arguments, null, the environment,
/// null.
extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the kernel lays the start stack out so.
    let (count, arguments) = unsafe { (*stack, stack.add(1).cast::<*const u8>()) };
    if count < 2 {
        sys::write(STDERR, USAGE);
        sys::exit(EXIT_USAGE);
    }
    // SAFETY: argc arguments and a null come before the environment; argument 1 exists.
    let (program, environment) = unsafe { (arguments.add(1), arguments.add(count + 1)) };
    run(program, environment)
}

fn run(program: Strings, environment: Strings) -> ! {
    vmfi_wrapper_status.touch();
    print_process(b"wrapper: pid ", sys::process_id());
    // Blocked signals wait until they are asked for, so none is lost and no handler is needed.
    let signals = sys::signal_set(&[SIGCHLD, SIGINT, SIGTERM]);
    let mask = sys::block(signals);
    set!(start_ns, sys::monotonic_ns());
    let child = sys::fork() as i32;
    if child == 0 {
        sys::set_mask(mask);
        execute(program, environment);
    }
    if child < 0 {
        sys::write(STDERR, b"wrapper: cannot start a process\n");
        sys::exit(1);
    }
    set!(child_pid, child);
    set!(state, RUNNING);
    print_process(b"wrapper: child ", child);
    let status = wait(child, signals);
    set!(exit_status, status);
    set!(end_ns, sys::monotonic_ns());
    set!(state, ENDED);
    sys::exit(exit_code(status))
}

/// Waits until the child has ended, passing signals on.
fn wait(child: i32, signals: u64) -> i32 {
    loop {
        if let Some(status) = sys::wait_for(child) {
            return status;
        }
        if let signal @ (SIGINT | SIGTERM) = sys::wait_signal(signals) {
            sys::kill(child, signal);
        }
    }
}

/// What a shell would make of a wait status.
fn exit_code(status: i32) -> i32 {
    match status & 0x7f {
        0 => status >> 8 & 0xff,
        signal => 128 + signal,
    }
}

/// Becomes the program, looked for in PATH if its name has no slash.
fn execute(program: Strings, environment: Strings) -> ! {
    // SAFETY: argument 1 is a string.
    let name = unsafe { CStr::from_ptr((*program).cast()) }.to_bytes_with_nul();
    let error = if name.contains(&b'/') {
        sys::execve(name.as_ptr(), program, environment)
    } else {
        search(name, program, environment)
    };
    sys::write(STDERR, b"wrapper: cannot execute ");
    sys::write(STDERR, name.split_last().map_or(&[], |(_, name)| name));
    sys::write(
        STDERR,
        match error {
            ENOENT => b": no such file\n",
            EACCES => b": no permission\n",
            ENOEXEC => b": not a program\n",
            _ => b": the kernel refuses it\n",
        },
    );
    sys::exit(EXIT_CANNOT_EXECUTE)
}

fn search(name: &[u8], program: Strings, environment: Strings) -> isize {
    let mut error = ENOENT;
    for folder in path(environment).split(|&byte| byte == b':') {
        let folder = if folder.is_empty() { b"." } else { folder };
        let mut buffer = [0u8; PATH_LIMIT];
        let parts = folder.iter().chain(b"/").chain(name);
        if folder.len() + 1 + name.len() > PATH_LIMIT {
            continue;
        }
        buffer.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        let failed = sys::execve(buffer.as_ptr(), program, environment);
        if failed != ENOENT {
            error = failed;
        }
    }
    error
}

/// The value of PATH, or a usual one.
fn path(environment: Strings) -> &'static [u8] {
    let mut next = environment;
    // SAFETY: the list ends with null, and the start stack stays as long as the process.
    while let Some(variable) = unsafe { (*next).as_ref() } {
        // SAFETY: each is a string.
        let text = unsafe { CStr::from_ptr(core::ptr::from_ref(variable).cast()) }.to_bytes();
        if let Some(value) = text.strip_prefix(b"PATH=") {
            return value;
        }
        // SAFETY: not yet at the end.
        next = unsafe { next.add(1) };
    }
    b"/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
}

/// Prints one whole line at once, so that the program's own output cannot split it.
fn print_process(label: &[u8], process: i32) {
    let mut line = [b'\n'; 32];
    let mut digits = [0u8; 10];
    let mut count = 0;
    let mut rest = process.unsigned_abs();
    for digit in &mut digits {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
        if rest == 0 {
            break;
        }
    }
    let text = label.iter().chain(digits.iter().take(count).rev());
    line.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
    let length = label.len() + count + 1;
    sys::write(STDOUT, line.get(..length).unwrap_or(&line));
}
