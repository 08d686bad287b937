//! `vmfi symbols <WRAPPER_PID> [PATTERN]`: the symbols of the victim's program, and then of its
//! libraries, with where they are now; `vmfi symbols --kernel [PATTERN]` those of the guest's kernel.
//! PATTERN is a part of the name, or with `*` and `?` all of it.

use super::guest_args::GuestArgs;
use super::output;
use super::victim_args::VictimArgs;
use crate::address::Gva;
use crate::guest::Guest;
use crate::kernel::{KernelError, KernelSymbol, sanitized};
use crate::memory::Access;
use crate::symbols::Listed;
use crate::victim::{FileSymbols, Victim, VictimError, VictimMemory};
use clap::Args;
use serde::Serialize;

/// List the symbols of the wrapper's child and of its libraries, or of the kernel
#[derive(Args)]
pub struct SymbolsArgs {
    #[command(flatten)]
    victim: VictimArgs,
    /// Only those whose name has this in it; with * and ?, whose name is so
    pattern: Option<String>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    gva: Option<String>,
    size: u64,
    kind: char,
    file: String,
}

pub fn run(args: &SymbolsArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    let [pattern] = args.victim.words([args.pattern.as_deref()])?;
    // With --kernel the pattern stands where the process id would.
    let pattern = pattern.unwrap_or_default();
    let choice = args.victim.choice(guest_args)?;
    let guest = guest_args.open(Access::Read)?;
    let rows = match choice {
        Some(choice) => {
            let files = args.victim.files()?;
            choice.with_memory(&guest, |memory| {
                let memory = VictimMemory::open(memory.guest, memory.task.clone())?;
                Ok(rows(&Victim::open(memory, &files)?, pattern)?)
            })?
        }
        None => of_kernel(&guest, pattern)?,
    };
    if json {
        output::json(&rows)
    } else {
        output::text(&rows.iter().map(line).collect::<String>())
    }
}

fn rows(victim: &Victim, pattern: &str) -> Result<Vec<Row>, VictimError> {
    let mut rows = Vec::new();
    for FileSymbols { path, bias, symbols } in victim.all_symbols()? {
        let wanted = symbols.into_iter().filter(|listed| is_wanted(listed, pattern));
        rows.extend(wanted.map(|listed| row(path, bias, listed)));
    }
    Ok(rows)
}

fn of_kernel(guest: &Guest, pattern: &str) -> Result<Vec<Row>, KernelError> {
    let all = guest.kernel().all_symbols(guest.memory())?;
    let wanted = all.into_iter().filter(|symbol| fits(&symbol.name, pattern));
    let row = |KernelSymbol { gva, letter, name }| Row {
        name,
        gva: Some(gva.to_string()),
        size: 0,
        kind: letter,
        file: guest.kernel().release().to_owned(),
    };
    Ok(wanted.map(row).collect())
}

fn row(file: &str, bias: u64, listed: Listed) -> Row {
    let bias = if listed.symbol.absolute { 0 } else { bias };
    // A thread-local variable has an address in each thread.
    let gva = Gva(listed.symbol.address).checked_add(bias).filter(|_| listed.letter != 'l');
    Row {
        name: sanitized(listed.name.as_bytes()),
        gva: gva.map(|gva| gva.to_string()),
        size: listed.symbol.size,
        kind: listed.letter,
        file: file.to_owned(),
    }
}

fn line(Row { name, gva, size, kind, file }: &Row) -> String {
    let gva = gva.as_deref().unwrap_or("-");
    format!("{gva:<18} {size:>8} {kind} {name}  {file}\n")
}

fn is_wanted(listed: &Listed, pattern: &str) -> bool {
    let mut names = [&listed.name].into_iter().chain(&listed.other_names);
    names.any(|name| fits(name, pattern))
}

fn fits(name: &str, pattern: &str) -> bool {
    match pattern.contains(['*', '?']) {
        true => matches(pattern.as_bytes(), name.as_bytes()),
        false => name.contains(pattern),
    }
}

/// Whether `name` is what `pattern` says, in which `*` stands for any text and `?` for a letter.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    // The last `*`, and where what it stands for ends so far.
    let mut star: Option<(usize, usize)> = None;
    while of < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(&letter) if letter == b'?' || letter == name[of] => (at, of) = (at + 1, of + 1),
            _ => {
                let Some((before, end)) = star else { return false };
                star = Some((before, end + 1));
                (at, of) = (before + 1, end + 1);
            }
        }
    }
    pattern[at..].iter().all(|&letter| letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let fits = |pattern: &str, name: &str| matches(pattern.as_bytes(), name.as_bytes());
        for pattern in ["rtrans", "r*", "*s", "r*a*s", "r?rans", "*", "**", "*?"] {
            assert!(fits(pattern, "rtrans"), "{pattern}");
        }
        for pattern in ["", "rtran", "R*", "*x*", "r?rans?", "s*", "?"] {
            assert!(!fits(pattern, "rtrans"), "{pattern}");
        }
        assert!(fits("", "") && fits("*", ""));
    }
}
