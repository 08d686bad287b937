//! From what a user types to a place in the guest's kernel, by the grammar of all targets. What is
//! typed with a path needs the kernel's own types.

use super::target::{address, cast, follow};
use super::{Place, TargetError};
use crate::address::Gva;
use crate::guest::Guest;
use crate::kernel::KernelSymbol;
use crate::process::{ProcessTree, tasks};
use crate::symbols::{Place as SymbolPlace, SymbolError, nearest_names};
use crate::types::{Expression, Root, Start, Typed};
use std::path::PathBuf;
use std::rc::Rc;

/// What the kernel's own types do not tell: they have no variables but those of each CPU. These are
/// the structures that are there for whoever runs first, or for all (include/linux/).
const VARIABLES: &[(&str, &str)] = &[
    ("init_task", "task_struct"),
    ("init_mm", "mm_struct"),
    ("init_cred", "cred"),
    ("init_nsproxy", "nsproxy"),
    ("init_pid_ns", "pid_namespace"),
    ("init_user_ns", "user_namespace"),
    ("init_uts_ns", "uts_namespace"),
    ("init_net", "net"),
    ("root_task_group", "task_group"),
    ("iomem_resource", "resource"),
    ("ioport_resource", "resource"),
    ("boot_cpu_data", "cpuinfo_x86"),
    ("panic_timeout", "int"),
    ("jiffies", "unsigned long"),
    ("jiffies_64", "u64"),
    ("nr_cpu_ids", "unsigned int"),
    ("total_forks", "unsigned long"),
];
/// Variables of each CPU have offsets for addresses, which are lower.
const PER_CPU_END: u64 = 1 << 32;
/// The type of a process.
const TASK: &str = "task_struct";

/// Where `text` leads in the kernel of `guest`.
pub fn find_in_kernel(guest: &Guest, text: &str) -> Result<Place, TargetError> {
    let ways = Expression::all(text);
    if let Some((way, pid)) = ways.iter().find_map(task) {
        let tree = ProcessTree::new(tasks(guest)?);
        let at = tree.process(pid)?.at;
        return along(guest, text, way, Known { gva: at, type_name: Some(TASK), pointer: true });
    }
    if let Some((way, gva)) = ways.iter().find_map(address) {
        return along(guest, text, way, Known { gva, type_name: None, pointer: false });
    }
    let all = guest.kernel().all_symbols(guest.memory())?;
    for way in &ways {
        let Root::Symbol(name) = way.root else { continue };
        if let Some(gva) = only(&all, name)? {
            if gva.0 < PER_CPU_END {
                return Err(TargetError::PerCpu(name.to_owned(), gva));
            }
            let type_name = VARIABLES.iter().find(|(own, _)| *own == name).map(|(_, of)| *of);
            return along(guest, text, way, Known { gva, type_name, pointer: false });
        }
    }
    let meant = ways.iter().rev().find_map(|way| match way.root {
        Root::Symbol(name) => Some(name),
        Root::Address(_) => None,
    });
    Err(no_symbol(all, meant.unwrap_or(text)).into())
}

/// What is known of a root.
struct Known<'k> {
    gva: Gva,
    type_name: Option<&'k str>,
    /// Whether the root is a pointer to what is there.
    pointer: bool,
}

/// The process id in `task(198)`.
fn task<'w, 't>(way: &'w Expression<'t>) -> Option<(&'w Expression<'t>, i32)> {
    let Root::Symbol(name) = way.root else { return None };
    let pid = name.strip_prefix("task(")?.strip_suffix(')')?.parse().ok()?;
    Some((way, pid))
}

/// Where the only symbol called `name` is; none where there is none.
fn only(all: &[KernelSymbol], name: &str) -> Result<Option<Gva>, SymbolError> {
    let mut found: Vec<_> = all.iter().filter(|symbol| symbol.name == name).collect();
    found.dedup_by_key(|symbol| symbol.gva);
    if let [] | [_] = found.as_slice() {
        return Ok(found.first().map(|only| only.gva));
    }
    let place = |symbol: &KernelSymbol| SymbolPlace { name: None, address: symbol.gva.0 };
    let places = found.into_iter().map(place).collect();
    Err(SymbolError::Ambiguous { name: name.to_owned(), path: whose(), places })
}

fn no_symbol(all: Vec<KernelSymbol>, name: &str) -> SymbolError {
    let near = nearest_names(name, all.into_iter().map(|symbol| symbol.name));
    SymbolError::NoSymbol { name: name.to_owned(), path: whose(), near }
}

fn whose() -> PathBuf {
    PathBuf::from("the guest's kernel")
}

/// Where `way` leads from its root.
fn along(guest: &Guest, text: &str, way: &Expression, root: Known) -> Result<Place, TargetError> {
    // A name alone needs no types: kernels without any can be written to as well.
    let types = guest.kernel().types(guest.memory());
    let types = if way.is_typed() { Some(types?) } else { types.ok() };
    let Some(types) = types else { return Place::untyped(root.gva).moved(text, way.offset) };
    let own = |name| Ok::<_, TargetError>(types.named(name)?);
    let typed = match (cast(way, || Ok(Rc::clone(&types)))?, root.type_name) {
        (Some(typed), _) => Some(typed),
        (None, Some(name)) => own(name)?.map(|id| Typed { types: types.clone(), id }),
        (None, None) => None,
    };
    let Some(typed) = typed else {
        return match way.is_typed() {
            true => Err(TargetError::Untyped(root.gva)),
            false => Place::untyped(root.gva).moved(text, way.offset),
        };
    };
    let start = match root.pointer && way.is_typed() {
        true => Start::Pointer(root.gva, typed.id),
        false => Start::Object(root.gva, typed.id),
    };
    follow(&guest.kernel_memory(), way, &typed, start)?.moved(text, way.offset)
}
