//! The launcher inside the guest.
//!
//!     wrapper [--gate] [--hold-exit] [--no-aslr] [--patience SECONDS] <executable> [args]
//!
//! Prints its own process id, starts the program, prints the child's, passes SIGTERM and SIGINT
//! on, and ends as the child did: its status, or 128 + signal. Its name in the task list is the
//! marker that the host looks for, and its status block (see `status`) tells the host the rest.
//!
//! With `--gate` it waits before it starts the program until the host writes into the block, so that
//! the host can take a snapshot there; keeps what the program prints; and stays afterwards until the
//! host has read all that, or its patience ends.
//!
//! No libc and no allocation, so that it runs in any guest and stays out of the way.

#![no_std]
#![no_main]
#![no_builtins]

mod arch;
mod execute;
mod mem;
mod options;
mod output;
mod status;
mod sys;
mod watch;

use execute::execute;
use options::Options;
use output::Pipes;
use status::{ENDED, GATED, RUN, RUNNING, STARTING, get, set, vmfi_wrapper_status};
use sys::{SIGCHLD, SIGINT, SIGTERM, Signals, Strings};
use watch::{LOOK_MS, wait_for_host, watch};

const USAGE: &[u8] =
    b"usage: wrapper [--gate] [--hold-exit] [--no-aslr] [--patience SECONDS] <executable> [args]\n\
    Starts the program as a child that vmfi finds from outside the guest.\n\
    --gate              wait until the host opens the gate; keep the output for it\n\
    --hold-exit         hold the program at its end until the host has looked\n\
    --no-aslr           the same addresses each time\n\
    --patience SECONDS  how long to wait for the host at the end (600)\n";
const EXIT_USAGE: i32 = 2;
const STDOUT: usize = 1;
const STDERR: usize = 2;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    sys::exit(1)
}

/// Called by the entry point with the start stack: argc, the arguments, null, the environment,
/// null.
extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the kernel lays the start stack out so.
    let (count, arguments) = unsafe { (*stack, stack.add(1).cast::<*const u8>()) };
    // SAFETY: argc arguments and a null come before the environment. Without any argument, not even
    // a name, the null is the first.
    let (words, environment) = unsafe { (arguments.add(count.min(1)), arguments.add(count + 1)) };
    match Options::parse(words) {
        Some(options) => run(&options, environment),
        None => {
            sys::write(STDERR, USAGE);
            sys::exit(EXIT_USAGE)
        }
    }
}

fn run(options: &Options, environment: Strings) -> ! {
    vmfi_wrapper_status.touch();
    set!(patience, options.patience);
    print_process(b"wrapper: pid ", sys::process_id());
    // Blocked signals wait until they are asked for, so none is lost and no handler is needed.
    let signals = Signals::block(&[SIGCHLD, SIGINT, SIGTERM]);
    let mut pipes = None;
    if options.gate {
        pipes = Some(Pipes::new().unwrap_or_else(|| fail(b"wrapper: cannot make a pipe\n")));
        wait_at_the_gate(&signals);
    } else {
        set!(open, RUN);
    }
    set!(start_ns, sys::monotonic_ns());
    let child = start_child(options, environment, &signals, &mut pipes);
    set!(child_pid, child);
    // One that is traced says so when it is loaded.
    if !options.hold_exit {
        set!(state, RUNNING);
    }
    print_process(b"wrapper: child ", child);
    let status = watch(child, &signals, pipes);
    set!(exit_status, status);
    if get!(end_ns) == 0 {
        set!(end_ns, sys::monotonic_ns());
    }
    set!(state, ENDED);
    if options.gate {
        wait_for_host(|| get!(acknowledged) != 0);
    }
    sys::exit(exit_code(status))
}

/// Waits until the host opens the gate; a signal ends that, and us.
fn wait_at_the_gate(signals: &Signals) {
    set!(state, GATED);
    while get!(open) == 0 {
        if let Some(signal @ (SIGINT | SIGTERM)) = signals.next() {
            sys::exit(128 + signal);
        }
        sys::sleep_ms(LOOK_MS);
    }
    set!(state, STARTING);
}

/// Starts the program; its process id.
fn start_child(
    options: &Options,
    environment: Strings,
    signals: &Signals,
    pipes: &mut Option<Pipes>,
) -> i32 {
    // A child that is to be traced waits until it is.
    let [waits, lets_on] = sys::pipe().unwrap_or_else(|| fail(b"wrapper: cannot make a pipe\n"));
    let child = sys::fork() as i32;
    if child < 0 {
        fail(b"wrapper: cannot start a process\n");
    }
    if child == 0 {
        sys::close(lets_on);
        let _ = sys::read(waits, &mut [0]);
        signals.restore();
        if let Some(pipes) = pipes {
            pipes.print_into();
        }
        if options.no_aslr {
            sys::fix_addresses();
        }
        execute(options.program, environment);
    }
    if options.hold_exit && !sys::trace(child) {
        sys::kill(child, sys::SIGKILL);
        fail(b"wrapper: cannot trace the program, which --hold-exit needs\n");
    }
    if let Some(pipes) = pipes {
        pipes.read_only();
    }
    sys::close(waits);
    sys::close(lets_on);
    child
}

fn fail(why: &[u8]) -> ! {
    sys::write(STDERR, why);
    sys::exit(1)
}

/// What a shell would make of a wait status.
fn exit_code(status: i32) -> i32 {
    match status & 0x7f {
        0 => status >> 8 & 0xff,
        signal => 128 + signal,
    }
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
