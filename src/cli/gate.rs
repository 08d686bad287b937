//! `vmfi gate <WRAPPER_PID>`: what a wrapper that was started with `--gate` tells of itself and its
//! program, and a word to it: to open the gate, to let a program go that is held at its end, or that
//! all was read and it may end. All of it goes through guest memory.

use super::guest_args::GuestArgs;
use super::{number, output};
use crate::guest::Guest;
use crate::memory::Access;
use crate::process::{ProcessError, ProcessTree, tasks};
use crate::victim::{Files, Output, StatusBlock, Stream, Told, Victim, VictimMemory, Word};
use clap::Args;
use serde::Serialize;
use std::fmt::Write;

/// Tell what a wrapper with a gate is about, or open it
#[derive(Args)]
pub struct GateArgs {
    /// The wrapper's process id, as 'vmfi list' shows it
    #[arg(value_name = "WRAPPER_PID", value_parser = number::parse_pid)]
    pid: i32,
    /// Open the gate: the program is started
    #[arg(long)]
    open: bool,
    /// Let a program go that is held at its end
    #[arg(long)]
    let_go: bool,
    /// Say that all was read, so that the wrapper may end
    #[arg(long)]
    acknowledge: bool,
}

/// What a wrapper tells.
#[derive(Serialize)]
struct Status {
    pid: i32,
    state: &'static str,
    child: Option<i32>,
    exit_status: Option<i32>,
    signal: Option<i32>,
    run_time_ns: Option<u64>,
    cpu_time_ns: Option<u64>,
    stdout: Printed,
    stderr: Printed,
}

/// What a program has printed, as far as it is kept.
#[derive(Serialize)]
struct Printed {
    bytes: u64,
    cut: bool,
    text: String,
}

pub fn run(args: &GateArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    let words = [
        (args.open, Word::Open),
        (args.let_go, Word::LetGo),
        (args.acknowledge, Word::Acknowledged),
    ];
    let mut words =
        words.into_iter().filter(|(wanted, _)| *wanted).map(|(_, word)| word).peekable();
    let access = if words.peek().is_some() { Access::Write } else { Access::Read };
    let guest = guest_args.open(access)?;
    let block = block(&guest, args.pid, &guest_args.wrapper_name)?;
    let gone = ProcessError::NoGate(args.pid);
    let told = block.read()?.ok_or(gone)?;
    words.try_for_each(|word| block.say(word))?;
    let status = status(args.pid, &told, &block)?;
    if json { output::json(&status) } else { output::text(&shown(&status)) }
}

fn block<'g>(guest: &'g Guest, pid: i32, name: &str) -> anyhow::Result<StatusBlock<'g>> {
    let tree = ProcessTree::new(tasks(guest)?);
    let wrapper = tree.wrapper(pid, name)?;
    let memory = || VictimMemory::open(guest, wrapper.clone());
    let victim = Victim::open(memory()?, &Files::of_guest())?;
    let at = StatusBlock::place(&victim)?.ok_or(ProcessError::NoGate(pid))?;
    Ok(StatusBlock::new(memory()?, at))
}

fn status(pid: i32, told: &Told, block: &StatusBlock) -> anyhow::Result<Status> {
    let signal = told.exit_status & 0x7f;
    let ended = told.ended_ns > 0;
    Ok(Status {
        pid,
        state: told.state.map_or("unknown", |state| state.name()),
        child: Some(told.child).filter(|child| *child != 0),
        exit_status: Some(told.exit_status >> 8 & 0xff).filter(|_| ended && signal == 0),
        signal: Some(signal).filter(|signal| ended && *signal != 0),
        run_time_ns: told.ended_ns.checked_sub(told.started_ns).filter(|_| ended),
        cpu_time_ns: Some(told.cpu_ns).filter(|used| *used > 0),
        stdout: printed(&block.output(Stream::Stdout)?),
        stderr: printed(&block.output(Stream::Stderr)?),
    })
}

fn printed(output: &Output) -> Printed {
    let text = String::from_utf8_lossy(&output.tail).into_owned();
    Printed { bytes: output.total, cut: output.cut(), text }
}

fn shown(status: &Status) -> String {
    let mut text = format!("{}: {}", status.pid, status.state);
    let numbers =
        [("child", status.child), ("status", status.exit_status), ("signal", status.signal)];
    for (what, number) in numbers {
        text += &number.map(|number| format!(", {what} {number}")).unwrap_or_default();
    }
    let times = [("ran", status.run_time_ns), ("CPU time", status.cpu_time_ns)];
    for (what, ns) in times {
        text += &ns.map(|ns| format!(", {what} {:.3} s", ns as f64 / 1e9)).unwrap_or_default();
    }
    text.push('\n');
    for (what, printed) in [("output", &status.stdout), ("errors", &status.stderr)] {
        let Printed { bytes, cut, text: own } = printed;
        let kept = if *cut {
            format!(", of which the last {} are kept", own.len())
        } else {
            String::new()
        };
        if *bytes > 0 {
            let _ = write!(text, "{what}, {bytes} bytes{kept}:\n{}", output::visible(own));
        }
    }
    text
}
