//! docs/support-matrix.md: what each guest was, and what was proved of it.

use super::Outcome;
use super::axes::{Axis, Cell, KERNELS};
use super::cell::Proved;
use std::process::Command;
use vmfi::lab::Accel;

const HEAD: &str = "\
Each row is a guest of its own. `vmfi` was given its memory and nothing else: `-m RAM` where that is a
file, else `--qemu PID`. *Proved* is a row of which all of this came out as the guest itself says:

- `vmfi probe` tells the kernel's release (`uname -r`), its levels of page tables (`/proc/cpuinfo`),
  how far KASLR moved it (`/proc/kallsyms`), and where RAM lies (`/proc/iomem`).
- `vmfi list` shows the wrapper and its child, `vmfi list --all` every process (`ps`).
- `vmfi inject` by a variable's name, in a program at fixed addresses and in one that is loaded
  anywhere, writes where the guest's pagemap has the variable, and the guest reads the fault there:
  below 4 GiB, and above it where the guest has RAM there.

A kernel built without `CONFIG_X86_5LEVEL` uses four levels of a CPU that offers five. Of a file that
another kernel used, that kernel's banner still lay in RAM. Private memory is RAM as QEMU has it where
no option asks for another: a word is not written atomically there, and the receipt says so, as it says
that all other RAM is. Guests with more than 2 GiB run with `init_on_alloc=0`: all that is above 4 GiB
is taken from them, and need not become the host's.
";

const COLUMNS: &str = "\
| kernel | machine | RAM | held in | levels | KASLR | faults landed | |
|---|---|---|---|---|---|---|---|
";

/// The whole page. `outcomes` has the cells of all `axes` in their order.
pub fn page(axes: &[Axis], outcomes: &[Outcome]) -> String {
    let mut outcomes = outcomes.iter();
    let tables = axes.iter().map(|axis| {
        let rows = axis.cells.iter().zip(&mut outcomes).map(|(cell, outcome)| row(cell, outcome));
        format!("\n## {}\n\n{COLUMNS}{}", axis.title, rows.collect::<String>())
    });
    let tables: String = tables.collect();
    format!("# Support matrix\n\n{}\n{HEAD}{tables}", written_by())
}

fn written_by() -> String {
    let qemu = Command::new("qemu-system-x86_64").arg("--version").output().unwrap().stdout;
    let qemu = String::from_utf8(qemu).unwrap();
    let accel = Accel::choose(&KERNELS[0].image()).unwrap().name();
    let (qemu, date) = (qemu.lines().next().unwrap(), jiff::Zoned::now().date());
    format!("Written by `make test-matrix` on {date}. {qemu}, {accel}.\n")
}

fn row(cell: &Cell, outcome: &Outcome) -> String {
    let (landed, end) = match outcome {
        Ok(proved) => (proved.sides(), "proved".to_owned()),
        Err(why) => ("", format!("**failed**: {}", why.replace('|', "\\|"))),
    };
    let (kernel, size, levels) = (cell.kernel.release(), cell.size(), levels(cell, outcome));
    let (machine, held, slide) = (cell.machine, cell.held, cell.slide());
    format!("| {kernel} | {machine} | {size} | {held} | {levels} | {slide} | {landed} | {end} |\n")
}

/// A kernel that is not built for five uses four of a CPU that has five.
fn levels(cell: &Cell, outcome: &Outcome) -> String {
    match outcome {
        Ok(Proved { levels, .. }) if *levels != cell.levels => {
            format!("{levels} of {} offered", cell.levels)
        }
        _ => cell.levels.to_string(),
    }
}
