//! `vmfi guests`: the VMs that run on this host, where the RAM of each lies, and what can be done
//! with it. Each can be given to `--qemu` by its process id.
//!
//! RAM in a shared file or a memfd is mapped, and a word of it is written atomically. Private RAM, as
//! QEMU has it without any option, is read and written through the process, and not atomically.
//!
//! JSON: an array of `{"pid", "name", "machine", "ram_bytes", "ram", "qmp", "access",
//! "atomic", "why"}`: `ram` says what RAM lies in, part by part; `access` is `"write"`, `"read"` or
//! `"none"`, and `why` tells what stands in the way of more. No VM is an empty list, a line on
//! standard error and exit code 5.

use super::error::NoVm;
use super::output;
use crate::memory::Access;
use crate::vmm::{self, Vm, VmSource};
use clap::Args;
use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;
use std::sync::Arc;
use std::thread;

/// How many VMs are asked at the same time.
const AT_ONCE: usize = 32;

/// Show the VMs on this host, and what can be done with each
#[derive(Args)]
pub struct GuestsArgs {}

#[derive(Serialize)]
struct Listed {
    pid: i32,
    name: String,
    machine: String,
    ram_bytes: u64,
    ram: Vec<String>,
    qmp: Option<String>,
    access: &'static str,
    atomic: bool,
    why: Option<String>,
}

pub fn run(_: &GuestsArgs, json: bool) -> anyhow::Result<()> {
    let listed: Vec<_> = vmm::running().chunks(AT_ONCE).flat_map(listed_at_once).collect();
    if json {
        output::json(&listed)?;
    } else if !listed.is_empty() {
        output::text(&table(&listed))?;
    }
    if listed.is_empty() { Err(NoVm.into()) } else { Ok(()) }
}

/// Each is asked by itself, for a silent one is waited for.
fn listed_at_once(vms: &[Arc<dyn Vm>]) -> Vec<Listed> {
    thread::scope(|scope| {
        let asked: Vec<_> = vms.iter().map(|vm| scope.spawn(|| listed(vm.as_ref()))).collect();
        asked.into_iter().filter_map(|answer| answer.join().ok()).collect()
    })
}

fn listed(vm: &dyn Vm) -> Listed {
    let found = vm.ram().map_err(|error| error.to_string());
    let sources = found.as_ref().map_or(&[][..], |ram| &ram.sources);
    let mut ram: Vec<_> = sources.iter().map(ToString::to_string).collect();
    ram.dedup();
    let (access, why) = match &found {
        Ok(ram) => access(&ram.sources),
        Err(why) => ("none", Some(why.clone())),
    };
    Listed {
        pid: vm.process().pid,
        name: vm.name(),
        machine: vm.machine(),
        ram_bytes: vm.ram_bytes(),
        ram,
        qmp: vm.socket().map(|path| path.display().to_string()),
        access,
        atomic: !sources.is_empty() && sources.iter().all(VmSource::is_shared),
        why,
    }
}

/// What may be done with RAM in `sources`, and why no more.
fn access(sources: &[VmSource]) -> (&'static str, Option<String>) {
    let opened = |access| sources.iter().try_for_each(|source| source.open(access).map(drop));
    match (opened(Access::Write), opened(Access::Read)) {
        (Ok(()), _) => ("write", None),
        (Err(why), Ok(())) => ("read", Some(why.to_string())),
        (_, Err(why)) => ("none", Some(why.to_string())),
    }
}

fn table(listed: &[Listed]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["PID", "NAME", "MACHINE", "SIZE", "RAM", "QMP", "CAN BE"]);
    for vm in listed {
        let size = format!("{} MiB", vm.ram_bytes >> 20);
        let ram = if vm.ram.is_empty() { "-".to_owned() } else { vm.ram.join(", ") };
        let qmp = vm.qmp.as_deref().unwrap_or("-");
        let texts = [&vm.name, &vm.machine, &size, &ram, qmp, &can_be(vm)];
        // What stands on a command line may hold what a terminal obeys.
        let texts = texts.map(|text| text.escape_default().to_string());
        table.add_row([vec![vm.pid.to_string()], texts.to_vec()].concat());
    }
    table.trim_fmt() + "\n"
}

fn can_be(vm: &Listed) -> String {
    let done = match (vm.access, vm.atomic) {
        ("write", true) => "read and written, atomically",
        ("write", false) => "read and written, not atomically",
        ("read", _) => "read",
        _ => "neither read nor written",
    };
    vm.why.as_ref().map_or_else(|| done.to_owned(), |why| format!("{done}: {why}"))
}
