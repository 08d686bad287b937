//! `vmfi run`: boots a throw-away guest round a program of the host, and runs it there under the
//! wrapper.
//!
//! The program comes as it is on the host, with its loader and its shared libraries, and starts in a
//! folder called as the current one; the files that it reads come with `--add`, each where the host
//! has it. What it prints is printed here as it comes, standard output and standard error apart. On
//! standard error stands what to type in another terminal, to look at the guest and to inject. The end
//! is that of the program: its status, 128 and the signal that ended it, or 127 where it cannot be
//! executed. Ctrl-C ends program and guest. What the program writes in the guest goes with it. Its
//! standard input is empty, and its environment the guest's, not that of here.
//!
//! The kernel is the one of `make demo`, where that is built, or else the host's own; any with a
//! serial console built in will do. KVM is used where it works.

use super::error::UsageError;
use super::{number, output, signal};
use crate::lab::{Accel, Event, KernelImage, Machine, Program, Session};
use anyhow::Context;
use clap::Args;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Run a program in a guest of its own, under the wrapper
#[derive(Args)]
pub struct RunArgs {
    /// The kernel that the guest boots [default: the demo's, or else the host's own]
    #[arg(long, env = "VMFI_KERNEL_IMAGE", value_name = "PATH")]
    kernel_image: Option<PathBuf>,
    /// The guest's RAM
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = number::parse_size)]
    ram: u64,
    /// The guest's CPUs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    smp: u32,
    /// How QEMU runs the guest [default: kvm where it works]
    #[arg(long, env = "VMFI_ACCEL", value_name = "kvm|tcg")]
    accel: Option<Accel>,
    /// A file or a folder that the program needs; may be given again
    #[arg(long, value_name = "PATH")]
    add: Vec<PathBuf>,
    /// The program: a path, or a name that is looked up in PATH
    #[arg(value_name = "APP")]
    app: PathBuf,
    /// What it is given
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub fn run(args: &RunArgs, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let what = "'vmfi run' has no --json: what it prints is what the program prints";
        return Err(UsageError(what.to_owned()).into());
    }
    let program = Program::new(&args.app, &args.add)?;
    let machine = args.machine()?;
    signal::catch()?;
    let mut session = Session::start(&machine, &program, &args.arguments)?;
    while !signal::caught() {
        match session.event()? {
            Some(Event::Wrapper(pid)) => tell(&session, pid),
            Some(Event::Output(bytes)) => pass(&mut std::io::stdout(), &bytes)?,
            Some(Event::Error(bytes)) => pass(&mut std::io::stderr(), &bytes)?,
            Some(Event::Ended(status)) => return Ok(ExitCode::from(status)),
            None => {}
        }
    }
    Ok(ExitCode::from(signal::STOPPED))
}

impl RunArgs {
    fn machine(&self) -> anyhow::Result<Machine> {
        let kernel = match &self.kernel_image {
            Some(path) => KernelImage::open(path)?,
            None => KernelImage::find()?,
        };
        if kernel.is_real_time() {
            output::note("this kernel has one port only: standard error comes on standard output");
        }
        Ok(Machine { kernel, ram_mib: self.ram >> 20, cpus: self.smp, accel: self.accel })
    }
}

/// What to type elsewhere.
fn tell(session: &Session, wrapper: i32) {
    let vmfi = format!("vmfi -m {}", session.ram().display());
    output::note(&format!("in another terminal: {vmfi} list"));
    let words = "SYMBOL VALUE NUM_BYTES OFFSET";
    output::note(&format!("in another terminal: {vmfi} inject {wrapper} {words}"));
}

/// Hands on what the program printed, at once.
fn pass(to: &mut impl Write, bytes: &[u8]) -> anyhow::Result<()> {
    to.write_all(bytes).and_then(|()| to.flush()).context("cannot hand on the program's output")
}
