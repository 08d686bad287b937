//! Watching the program until it has ended: signals are passed on, output too, and where that was
//! asked for it is held at its end.

use crate::output::Pipes;
use crate::status::{ENDING, LOADED, RUN, RUNNING, get, set};
use crate::sys::{self, Change, SIGINT, SIGTERM, Signals};

/// How often the host's words are looked at.
pub const LOOK_MS: u64 = 1;
const SIGTRAP: i32 = 5;
/// Of ptrace(2).
const EVENT_EXEC: i32 = 4;
const EVENT_EXIT: i32 = 6;
const EVENT_STOP: i32 = 128;

/// Waits until `child` has ended; its wait status.
pub fn watch(child: i32, signals: &Signals, mut pipes: Option<Pipes>) -> i32 {
    loop {
        let ends = pipes.as_ref().map_or([-1, -1], Pipes::ends);
        sys::poll([signals.descriptor, ends[0], ends[1]]);
        if let Some(pipes) = &mut pipes {
            pipes.drain();
        }
        if let Some(signal @ (SIGINT | SIGTERM)) = signals.next() {
            sys::kill(child, signal);
        }
        while let Some(change) = sys::wait_for(child) {
            if let Some(pipes) = &mut pipes {
                pipes.drain();
            }
            match change {
                Change::Ended { status, cpu_ns } => {
                    set!(cpu_ns, cpu_ns);
                    return status;
                }
                Change::Stopped { signal, event } => let_on(child, signal, event),
            }
        }
    }
}

/// Lets a traced child go on, which it does as if nobody traced it.
fn let_on(child: i32, signal: i32, event: i32) {
    match (event, signal) {
        (EVENT_EXEC, _) => {
            begin();
            sys::go_on(child, 0);
        }
        (EVENT_EXIT, _) => {
            hold(child);
            sys::go_on(child, 0);
        }
        (EVENT_STOP, SIGTRAP) => sys::go_on(child, 0),
        (EVENT_STOP, _) => sys::stay_stopped(child),
        (0, signal) => sys::go_on(child, signal),
        _ => sys::go_on(child, 0),
    }
}

/// The child is loaded and has not begun: it is held there, unless it is to run at once.
fn begin() {
    if get!(open) & RUN == 0 {
        set!(state, LOADED);
        wait_for_host(|| get!(open) & RUN != 0);
        set!(start_ns, sys::monotonic_ns());
    }
    set!(state, RUNNING);
}

/// Holds `child`, which is ending, until the host has looked at it.
fn hold(child: i32) {
    set!(exit_status, sys::exit_message(child));
    set!(end_ns, sys::monotonic_ns());
    set!(state, ENDING);
    wait_for_host(|| get!(let_go) != 0);
}

/// Waits for a word of the host's, for as long as its patience lasts.
pub fn wait_for_host(said: impl Fn() -> bool) {
    let until = sys::monotonic_ns() + u64::from(get!(patience)) * 1_000_000_000;
    while !said() && sys::monotonic_ns() < until {
        sys::sleep_ms(LOOK_MS);
    }
}
