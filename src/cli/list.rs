//! `vmfi list`: each wrapper in the guest with all its descendants; with `--all` every process.
//!
//! No wrapper is an empty list, a line on standard error and exit code 5.

use super::error::NoWrapper;
use super::guest_args::GuestArgs;
use super::output;
use crate::guest::Guest;
use crate::memory::Access;
use crate::process::{ProcessTree, Task, executable, tasks};
use clap::Args;
use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;

/// Show the wrappers in the guest and their children
#[derive(Args)]
pub struct ListArgs {
    /// Every process
    #[arg(long)]
    pub all: bool,
}

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    process: Process,
    #[serde(skip_serializing_if = "Option::is_none")]
    ppid: Option<i32>,
    children: Vec<Process>,
}

#[derive(Serialize)]
struct Process {
    pid: i32,
    comm: String,
    state: String,
    exe: Option<String>,
}

pub fn run(args: &ListArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    let guest = guest_args.open(Access::Read)?;
    let tree = ProcessTree::new(tasks(&guest)?);
    let shown: Vec<&Task> = if args.all {
        tree.all().iter().collect()
    } else {
        tree.wrappers(&guest_args.wrapper_name).collect()
    };
    let listed: Vec<_> = shown.iter().map(|task| listed(&guest, &tree, task, args.all)).collect();
    if json {
        output::json(&listed)?;
    } else if !listed.is_empty() {
        output::text(&table(&listed, args.all))?;
    }
    if listed.is_empty() {
        return Err(NoWrapper(guest_args.wrapper_name.clone()).into());
    }
    Ok(())
}

fn listed(guest: &Guest, tree: &ProcessTree, task: &Task, all: bool) -> Listed {
    let children = tree.descendants(task.pid);
    Listed {
        process: process(guest, task),
        ppid: all.then_some(task.parent),
        children: children.into_iter().map(|child| process(guest, child)).collect(),
    }
}

fn process(guest: &Guest, task: &Task) -> Process {
    // The process may end while its path is followed; then it has none any more.
    let exe = executable(guest, task).unwrap_or_else(|error| {
        log::debug!("process {}: no executable: {error}", task.pid);
        None
    });
    Process { pid: task.pid, comm: task.comm.clone(), state: task.state.to_string(), exe }
}

fn table(listed: &[Listed], all: bool) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    if all {
        table.set_header(["PID", "PPID", "STATE", "NAME", "EXECUTABLE"]);
        for one in listed {
            let parent = one.ppid.map(|pid| pid.to_string()).unwrap_or_default();
            table.add_row(row(&one.process, "", Some(parent)));
        }
    } else {
        table.set_header(["PID", "STATE", "NAME", "EXECUTABLE"]);
        for one in listed {
            table.add_row(row(&one.process, "", None));
            for child in &one.children {
                table.add_row(row(child, "  ", None));
            }
        }
    }
    table.trim_fmt() + "\n"
}

fn row(process: &Process, indent: &str, parent: Option<String>) -> Vec<String> {
    let pid = format!("{indent}{}", process.pid);
    let exe = process.exe.clone().unwrap_or_else(|| "-".to_owned());
    let rest = [process.state.clone(), process.comm.clone(), exe];
    [pid].into_iter().chain(parent).chain(rest).collect()
}
