//! Exit codes, and the one line on standard error that goes with each.

use super::campaign::Stopped;
use super::error::{NeverDue, NeverFired, NoMemory, NoVm, NoWrapper, NotUndone, UsageError};
use super::signal::STOPPED;
use super::wait::refusal;
use crate::campaign::PlanError;
use crate::campaign::attempt::AttemptError;
use crate::campaign::base::BaseError;
use crate::campaign::session::CampaignError;
use crate::campaign::store::StoreError;
use crate::guest::GuestError;
use crate::inject::{InjectError, OrderError, SeriesError};
use crate::kernel::KernelError;
use crate::lab::LabError;
use crate::memory::MemoryError;
use crate::process::ProcessError;
use crate::site::{RegionError, SiteError, TargetError};
use crate::symbols::SymbolError;
use crate::types::ValueError;
use crate::victim::VictimError;
use crate::vmm::{PalaciosError, VmError};
use crate::when::{ConditionError, ScheduleError, TriggerError};
use clap::error::ErrorKind;
use std::io::Write;
use std::process::ExitCode;

const UNEXPECTED: u8 = 1;
const USAGE: u8 = 2;
const RAM: u8 = 3;
const KERNEL: u8 = 4;
const PROCESS: u8 = 5;
const SYMBOL: u8 = 6;
const REFUSED: u8 = 7;
const CHANGED: u8 = 8;
const NEVER: u8 = 9;
/// As a shell has it for what cannot be executed.
const NO_PROGRAM: u8 = 127;

/// Prints what failed, in one line, and gives its exit code.
pub fn failure(error: &anyhow::Error) -> ExitCode {
    if let Some(error) = error.downcast_ref() {
        return usage(error);
    }
    say(&line(error));
    ExitCode::from(code(error))
}

/// The one line that says what failed.
pub fn line(error: &anyhow::Error) -> String {
    one_line(&whole_story(error))
}

/// Prints clap's complaint in one line; help and version as they are.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    say(&format!("{}; see '{} --help'", complaint(error), super::command_typed()));
    ExitCode::from(USAGE)
}

/// Clap's complaint in one line.
pub fn complaint(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "no command given".to_owned();
    }
    let text = error.render().to_string();
    // The complaint itself ends at the first empty line; tips and the usage follow.
    let complaint: Vec<_> = text.lines().take_while(|line| !line.is_empty()).collect();
    let complaint = one_line(&complaint.join(" "));
    complaint.strip_prefix("error: ").unwrap_or(&complaint).to_owned()
}

/// Where standard error is gone too, the exit code must still tell.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}: {line}", super::name());
}

/// The error and its causes, each unless the one before has said it.
fn whole_story(error: &anyhow::Error) -> String {
    let mut story = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !story.contains(&cause) {
            story = format!("{story}: {cause}");
        }
    }
    story
}

/// What was typed, or stands in a file, may hold what a terminal obeys.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// Whether guest RAM cannot be had.
pub fn is_of_ram(error: &anyhow::Error) -> bool {
    code(error) == RAM
}

/// The first cause that is one of ours decides.
fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(UNEXPECTED)
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if cause.is::<UsageError>() || is_of_moments(cause) {
        Some(USAGE)
    } else if cause.is::<NeverFired>() || cause.is::<NeverDue>() {
        Some(NEVER)
    } else if cause.is::<Stopped>() {
        Some(STOPPED)
    } else if cause.is::<NotUndone>() {
        Some(CHANGED)
    } else if cause.is::<NoWrapper>() {
        Some(PROCESS)
    } else if let Some(error) = cause.downcast_ref() {
        Some(guest(error))
    } else if let Some(error) = cause.downcast_ref() {
        Some(process(error))
    } else if let Some(error) = cause.downcast_ref() {
        Some(victim(error))
    } else if let Some(error) = cause.downcast_ref() {
        Some(inject(error))
    } else if let Some(error) = cause.downcast_ref() {
        Some(site(error))
    } else if let Some(error) = cause.downcast_ref() {
        Some(region(error))
    } else if let Some(error) = cause.downcast_ref() {
        Some(vm(error))
    } else if let Some(error) = cause.downcast_ref() {
        Some(target(error))
    } else if let Some(error) = cause.downcast_ref() {
        Some(series(error))
    } else if let Some(error) = cause.downcast_ref() {
        Some(order(error))
    } else if let Some(error) = cause.downcast_ref() {
        Some(trigger(error))
    } else if let Some(error) = cause.downcast_ref() {
        Some(lab(error))
    } else if let Some(error) = cause.downcast_ref() {
        Some(campaign(error))
    } else if let Some(error) = cause.downcast_ref() {
        Some(store(error))
    } else if cause.is::<ValueError>() || cause.is::<PlanError>() {
        Some(USAGE)
    } else if cause.is::<KernelError>() {
        Some(KERNEL)
    } else if cause.is::<SymbolError>() {
        Some(SYMBOL)
    } else if cause.is::<MemoryError>() || cause.is::<NoMemory>() {
        Some(RAM)
    } else if cause.is::<NoVm>() {
        Some(PROCESS)
    } else {
        None
    }
}

fn is_of_moments(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<ScheduleError>() || cause.is::<ConditionError>()
}

fn guest(error: &GuestError) -> u8 {
    match error {
        GuestError::Kernel(KernelError::Diagnosed(what)) if what.is_of_ram() => RAM,
        GuestError::Kernel(_) => KERNEL,
        GuestError::Palacios(error) => palacios(error),
        _ => RAM,
    }
}

fn palacios(error: &PalaciosError) -> u8 {
    match error {
        PalaciosError::Moved => CHANGED,
        _ => RAM,
    }
}

fn process(error: &ProcessError) -> u8 {
    match error {
        ProcessError::Kernel(_) => KERNEL,
        ProcessError::Replaced(_) => CHANGED,
        _ => PROCESS,
    }
}

fn victim(error: &VictimError) -> u8 {
    match error {
        VictimError::Kernel(_) => KERNEL,
        VictimError::Process(error) => process(error),
        _ => SYMBOL,
    }
}

fn site(error: &SiteError) -> u8 {
    match error {
        SiteError::Kernel(_) => KERNEL,
        SiteError::Process(error) => process(error),
        _ => REFUSED,
    }
}

fn region(error: &RegionError) -> u8 {
    match error {
        RegionError::Kernel(_) => KERNEL,
        RegionError::Victim(error) => victim(error),
        RegionError::Empty { .. } => REFUSED,
    }
}

fn vm(error: &VmError) -> u8 {
    match error {
        VmError::NoSocket(_) | VmError::NoneToPause => USAGE,
        _ => RAM,
    }
}

fn target(error: &TargetError) -> u8 {
    match error {
        TargetError::Victim(error) => victim(error),
        TargetError::Process(error) => process(error),
        TargetError::Kernel(_) => KERNEL,
        TargetError::Region(_) => USAGE,
        error if error.is_of_memory() => REFUSED,
        _ => SYMBOL,
    }
}

fn series(error: &SeriesError) -> u8 {
    match error {
        SeriesError::Inject(error) => inject(error),
        SeriesError::Order(error) => order(error),
        SeriesError::Target(error) => target(error),
        SeriesError::Victim(error) => victim(error),
        SeriesError::Process(error) => process(error),
    }
}

fn order(error: &OrderError) -> u8 {
    match error {
        OrderError::Region(error) => region(error),
        OrderError::Types(_) => SYMBOL,
        _ => USAGE,
    }
}

fn campaign(error: &CampaignError) -> u8 {
    use CampaignError as E;
    match error {
        E::Store(error) => store(error),
        E::Base(error) => base(error),
        E::Lab(error) => lab(error),
        E::Attempt(error) => attempt(error),
        E::Memory { .. } | E::Unreadable { .. } => USAGE,
        E::Golden(_) | E::Judge(_) | E::NeverRan { .. } => UNEXPECTED,
    }
}

fn store(error: &StoreError) -> u8 {
    match error {
        StoreError::Sqlite { .. } | StoreError::File { .. } | StoreError::Damaged { .. } => {
            UNEXPECTED
        }
        _ => USAGE,
    }
}

fn base(error: &BaseError) -> u8 {
    match error {
        BaseError::Lab(error) => lab(error),
        BaseError::NoGate { .. } | BaseError::PastTheGate(_) => PROCESS,
        BaseError::NoStart { .. } => NEVER,
        BaseError::Down => UNEXPECTED,
        BaseError::Attempt(error) => attempt(error),
    }
}

fn attempt(error: &AttemptError) -> u8 {
    use AttemptError as E;
    match error {
        E::Lab(error) => lab(error),
        E::Guest(error) => guest(error),
        E::Kernel(_) => KERNEL,
        E::Victim(error) => victim(error),
        E::Process(error) => process(error),
        E::Target(error) => target(error),
        E::Order(error) => order(error),
        E::Trigger(error) => trigger(error),
        E::Inject(error) => inject(error),
        E::MovingCurve(_) => USAGE,
        E::TooShort => PROCESS,
        E::Never(_) | E::Late(_) => NEVER,
    }
}

fn lab(error: &LabError) -> u8 {
    use LabError as E;
    match error {
        E::Program(_) => NO_PROGRAM,
        E::BadAccel(_) | E::LittleRam { .. } | E::NotAKernel(_) => USAGE,
        E::NotAFile(_) | E::NotText(_) | E::Unreadable { .. } => USAGE,
        _ => UNEXPECTED,
    }
}

fn trigger(error: &TriggerError) -> u8 {
    match error {
        TriggerError::Target(error) => target(error),
        _ => SYMBOL,
    }
}

/// Whether a place was refused, as it may not be the next time.
pub fn is_refused(error: &anyhow::Error) -> bool {
    refusal(error).is_some()
}

/// The process that has ended, if that is what `error` is about.
pub fn ended(error: &anyhow::Error) -> Option<i32> {
    match error.downcast_ref()? {
        SeriesError::Process(ProcessError::Ended(pid))
        | SeriesError::Inject(InjectError::Process(ProcessError::Ended(pid))) => Some(*pid),
        _ => None,
    }
}

fn inject(error: &InjectError) -> u8 {
    match error {
        InjectError::StandsStill => REFUSED,
        InjectError::Site(error) => site(error),
        InjectError::Vm(error) => vm(error),
        InjectError::Process(error) => process(error),
        InjectError::Memory(_) => RAM,
        InjectError::Guest(error) => guest(error),
        _ => CHANGED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_ram_is_a_change_and_a_list_of_no_use_is_no_ram() {
        let no_vm = || PalaciosError::NoVm("/list".into());
        let moved = || GuestError::from(PalaciosError::Moved);
        assert_eq!(code(&moved().into()), CHANGED);
        assert_eq!(code(&InjectError::from(moved()).into()), CHANGED);
        assert_eq!(code(&InjectError::from(GuestError::from(no_vm())).into()), RAM);
        assert_eq!(code(&GuestError::from(no_vm()).into()), RAM);
        assert_eq!(code(&GuestError::from(VmError::Ended(1)).into()), RAM);
    }
}
