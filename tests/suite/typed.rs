//! Typed paths: where each leads, and what is there, is told by the victims themselves
//! (fixtures/typed), in C and C++, in each version of DWARF, with the types in the program or in a
//! debug file.

use crate::common::{Live, Ran, built, files, kernels, number};
use crate::libraries;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use vmfi::lab::{Initramfs, Setup};
use vmfi::symbols::{ElfFile, Sections};
use vmfi::types::{Dwarf, Expression, Root, Start, Types, value_of};

const PROGRAMS: [&str; 4] = ["typed-4", "typed-5", "spaces-4", "spaces-5"];

fn fixture(name: &str) -> PathBuf {
    built(&format!("fixtures/typed/{name}"))
}

/// A guest with `programs`, each under its name.
fn boot_with(programs: &[(&Path, &str)]) -> Live {
    let mut files: Initramfs = files();
    for (from, name) in programs {
        files.copy(from, &format!("/{name}")).unwrap();
    }
    Live::with(&Setup::new(&kernels()[0]), &files)
}

/// Starts `program`, and gives the wrapper's process id and what the victim told: path, address,
/// value.
fn start(live: &mut Live, program: &str) -> (String, Vec<(String, u64, String)>) {
    let (pid, _) = live.start(program);
    let lines = live.guest.run("until grep -q ^ready /out; do sleep 0.1; done; cat /out").unwrap();
    let told = lines.iter().filter_map(|line| {
        let (path, rest) = line.split_once(" 0x")?;
        let (address, value) = rest.split_once(' ')?;
        let address = u64::from_str_radix(address, 16).ok()?;
        Some((path.to_owned(), address, value.to_owned()))
    });
    let told: Vec<_> = told.filter(|(path, ..)| path != "ready").collect();
    assert!(told.len() > 10, "{lines:?}");
    (pid.to_string(), told)
}

fn stop(live: &mut Live) {
    live.guest.run("kill $(sed -n 's/^wrapper: child //p' /out); sleep 0.2").unwrap();
}

fn with(live: &Live, arguments: &[&str], more: &[&str]) -> Ran {
    live.with_memory_alone(&[arguments, more].concat())
}

/// What people see of a place: its value, which stands before its type.
fn shown(line: &str) -> &str {
    let (_, value) = line.trim_end().split_once(": ").unwrap();
    let (value, _) = value.rsplit_once(" (").unwrap();
    value.rsplit_once(" = ").filter(|_| !value.starts_with('{')).map_or(value, |(_, own)| own)
}

#[track_caller]
fn each_path_leads_where_it_should(live: &mut Live, program: &str, more: &[&str]) {
    let (pid, told) = start(live, program);
    // A program without debugging information does not tell its source files either.
    for (path, address, value) in
        told.iter().filter(|(path, ..)| more.is_empty() || !path.contains(".c:"))
    {
        let read = with(live, &["read", &pid, path, "--json"], more).json();
        assert_eq!(number(&read["gva"]), *address, "{program}: {path}: {read}");
        let ran = with(live, &["read", &pid, path], more);
        assert_eq!(shown(&ran.stdout), value, "{program}: {path}: {}", ran.stdout);
    }
    stop(live);
}

#[test]
fn a_path_leads_where_the_program_goes() {
    let built = PROGRAMS.map(fixture);
    let programs: Vec<_> = built.iter().map(PathBuf::as_path).zip(PROGRAMS).collect();
    let mut live = boot_with(&programs);
    for program in PROGRAMS {
        each_path_leads_where_it_should(&mut live, &format!("/{program}"), &[]);
    }
    let (pid, told) = start(&mut live, "/typed-5");
    let of = |name: &str, kind: &str| {
        let (path, address, _) = told.iter().find(|(path, ..)| path == name).unwrap();
        (path.clone(), *address, kind.to_owned())
    };
    symbols_are_listed(&live, &pid, &[of("not_a_number", "D"), of("typed.c:twin", "d")]);
    what_is_refused_is_told(&live, &pid);
    what_is_typed_is_injected(&live, &pid);
    programs_read_it_too(&live, &pid);
    stop(&mut live);
    the_solver_is_reached(&mut live);
}

/// Each with what must be in its one line.
fn what_is_refused_is_told(live: &Live, pid: &str) {
    let fails = |path: &str, code: i32, words: &[&str]| {
        let ran = with(live, &["read", pid, path], &[]);
        let line = ran.fails_with(code);
        for word in words {
            assert!(line.contains(word), "'{word}' is not in: {line}");
        }
    };
    fails("cfg->dims", 6, &["'cfg' is struct config", "type cfg.dims"]);
    fails("head.key", 6, &["struct node *", "type head->key"]);
    fails("values.x", 6, &["double *", "values[0]"]);
    fails("cfg.dims[3]", 6, &["int [3]", "no element 3", "only 0 to 2"]);
    fails("cfg.dims[-1]", 6, &["no element -1"]);
    fails("cfg.dimz", 6, &["no member 'dimz'", "dims"]);
    fails("scalar.x", 6, &["'scalar' is double", "no members"]);
    fails("scalar[0]", 6, &["'scalar' is double", "no elements"]);
    fails("*scalar", 6, &["'scalar' is double", "only a pointer"]);
    fails("*cfg.opaque", 6, &["'cfg.opaque' is void *"]);
    fails("cfg.hidden->x", 6, &["struct hidden", "only declares"]);
    fails("either.mode", 6, &["bit field"]);
    fails("cfg.parent->parent->name", 7, &["'cfg.parent->parent' is a null pointer"]);
    fails("(struct nothing)cfg", 6, &["no type 'struct nothing'"]);
    fails("0x4c1000.x", 6, &["nothing tells what is at 0x4c1000"]);
    fails("cfk.dims", 6, &["no symbol 'cfk'"]);
    fails("stack", 2, &["'stack' is a region"]);
    fails("heap", 6, &["a region and a symbol", "region:heap", "typed-5:heap"]);
    fails("region:heap", 2, &["'heap' is a region"]);
    assert_eq!(shown(&with(live, &["read", pid, "typed-5:heap"], &[]).stdout), "8.0");
    fails("(struct node)0x10.next->key", 7, &["0x10.next"]);
}

fn what_is_typed_is_injected(live: &Live, pid: &str) {
    let path = "cfg.parent->dims[2]";
    let receipt = with(live, &["inject", pid, path, "77", "4", "0", "--json"], &[]).json();
    assert_eq!((&receipt["symbol"], &receipt["before"]), (&path.into(), &"01000000".into()));
    let read = |path: &str| with(live, &["read", pid, path, "--json"], &[]).json();
    assert_eq!(read("parent.dims[2]")["value"], 77);
    // The same place by an address and a cast, and by an offset from a symbol.
    let gva = receipt["gva"].as_str().unwrap();
    assert_eq!(read(&format!("(int){gva}"))["value"], 77);
    assert_eq!(read(gva)["bytes"].as_str().unwrap()[..8], *"4d000000");
    let parent = read("parent")["gva"].as_str().unwrap().to_owned();
    assert_eq!(read(&format!("(struct config){parent}.dims[2]"))["value"], 77);
    let offset = number(&receipt["gva"]) - number(&parent.into());
    assert_eq!(read(&format!("parent+{offset:#x}"))["gva"], gva);
}

/// The same values as JSON.
fn programs_read_it_too(live: &Live, pid: &str) {
    let read = |path: &str| with(live, &["read", pid, path, "--json"], &[]).json();
    let typed = read("either");
    assert_eq!((&typed["type"], &typed["value"]["kind"]), (&"variant".into(), &200.into()));
    assert_eq!(typed["value"]["real"], 2.5);
    assert_eq!(
        (&typed["value"]["mode"], &typed["value"]["signed_bits"]),
        (&5.into(), &(-3).into())
    );
    assert_eq!(read("cfg.corners[0]")["value"], serde_json::json!({"x": 1.5, "y": -0.1}));
    assert_eq!(read("not_a_number")["value"], "nan");
    assert_eq!(
        (&read("head")["type"], &read("cfg.matrix")["type"]),
        (&"struct node *".into(), &"double [2][3]".into())
    );
    assert_eq!(read("many")["value"].as_array().unwrap().len(), 100);
}

fn symbols_are_listed(live: &Live, pid: &str, told: &[(String, u64, String)]) {
    let list = |pattern: &str| with(live, &["symbols", pid, pattern, "--json"], &[]).json();
    for (name, address, kind) in told {
        // With a pattern, the whole name must fit: a function's own 'twin' is another.
        let found = list(&format!("{}?", &name[..name.len() - 1]));
        let found: Vec<_> = found.as_array().unwrap().iter().collect();
        let [only] = found.as_slice() else { panic!("{name}: {found:?}") };
        assert_eq!((number(&only["gva"]), &only["kind"]), (*address, &kind.as_str().into()));
        assert_eq!(only["file"], "/typed-5");
    }
    let ran = with(live, &["symbols", pid, "scala?"], &[]);
    let words: Vec<_> = ran.stdout.split_whitespace().collect();
    assert_eq!(words[1..], ["8", "D", "scalar", "/typed-5"], "{}", ran.stdout);
    assert!(list("").as_array().unwrap().len() > 1000, "all of a static program");
    assert_eq!(list("no_such_symbol").as_array().unwrap().len(), 0);
}

#[test]
fn paths_through_libraries() {
    let mut files = files();
    for program in ["dynamic", "dynamic-pie"] {
        let own = built(&format!("fixtures/{program}"));
        files.copy_with_libraries(&own, &format!("/{program}")).unwrap();
    }
    let mut live = Live::with(&Setup::new(&kernels()[0]), &files);
    for program in ["/dynamic", "/dynamic-pie"] {
        let pid = live.start(program).0.to_string();
        let told = libraries::told(&mut live);
        let at = |name: &str| told.iter().find(|(path, ..)| path == name).unwrap().1;
        // In one of them it was moved into the program, which only declares it.
        for path in ["own_copied[1]", "libown.so.1:own_copied[1]"] {
            let read = with(&live, &["read", &pid, path, "--json"], &[]).json();
            assert_eq!(number(&read["gva"]), at("own_copied") + 8, "{path}");
            assert_eq!(read["type"], "uint64_t", "{path}");
        }
        let ran = with(&live, &["read", &pid, "own_copied[2]"], &[]);
        assert!(ran.fails_with(6).contains("only 0 to 1"), "{}", ran.stderr);
        stop(&mut live);
    }
}

/// The case of the paper: an element of the solver's matrix.
fn the_solver_is_reached(live: &mut Live) {
    let (pid, _) = live.start("/hpccg 20 20 20 0 100000");
    let pid = pid.to_string();
    let read = |path: &str| with(live, &["read", &pid, path, "--json"], &[]).json();
    let first = read("*A.list_of_vals");
    assert_eq!((&first["type"], &first["value"]), (&"double".into(), &27.0.into()));
    let element = read("A.list_of_vals[17]");
    assert_eq!(number(&element["gva"]), number(&first["gva"]) + 17 * 8);
    assert_eq!(read("A.nrow")["value"], 8000);
    let ran = with(live, &["read", &pid, "A->nrow"], &[]);
    assert!(ran.fails_with(6).contains("type A.nrow"));
}

fn run(program: &str, arguments: &[&str]) {
    assert!(Command::new(program).args(arguments).status().unwrap().success(), "{arguments:?}");
}

/// `from` without its debugging information as `to`, which has a link to the debug file `debug`.
fn part(from: &Path, to: &Path, debug: &Path) {
    let (from, to, debug) = (from.to_str().unwrap(), to.to_str().unwrap(), debug.to_str().unwrap());
    run("objcopy", &["--only-keep-debug", from, debug]);
    run("objcopy", &["--strip-debug", &format!("--add-gnu-debuglink={debug}"), from, to]);
}

#[test]
fn types_in_a_debug_file() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str| folder.path().join(name);
    let (bare, noid, split) = (of("bare"), of("noid"), fixture("split"));
    part(&fixture("typed-5"), &bare, &of("elsewhere"));
    let without_id = of("without-id");
    let (from, to) = (fixture("typed-4"), without_id.to_str().unwrap().to_owned());
    run("objcopy", &["--remove-section=.note.gnu.build-id", from.to_str().unwrap(), &to]);
    part(&without_id, &noid, &of("linked.debug"));
    let mut live = boot_with(&[(&bare, "bare"), (&noid, "noid"), (&split, "split")]);

    let (pid, _) = start(&mut live, "/bare");
    let read = |live: &Live, more: &[&str]| with(live, &["read", &pid, "cfg.dims[1]"], more);
    let line = |ran: &Ran| ran.fails_with(6).to_owned();
    let none = line(&read(&live, &[]));
    assert!(
        none.contains("types of /bare") && none.contains("-g") && none.contains("--debug-file")
    );
    let debug = of("elsewhere");
    let given = ["--debug-file", debug.to_str().unwrap()];
    assert_eq!(shown(&read(&live, &given).stdout), "4");
    let other = fixture("typed-4");
    let other = line(&read(&live, &["--debug-file", other.to_str().unwrap()]));
    assert!(other.contains("build-id") && other.contains("/bare"), "{other}");
    // Beside the program, and by build-id.
    let near = tempfile::tempdir().unwrap();
    let victim = ["--victim", near.path().to_str().unwrap()];
    fs::copy(&bare, near.path().join("bare")).unwrap();
    line(&read(&live, &victim));
    fs::copy(&debug, near.path().join("bare.debug")).unwrap();
    assert_eq!(shown(&read(&live, &victim).stdout), "4");
    fs::rename(near.path().join("bare.debug"), near.path().join("moved")).unwrap();
    fs::copy(fixture("typed-4"), near.path().join("bare.debug")).unwrap();
    let refused = line(&read(&live, &victim));
    assert!(refused.contains("bare.debug is not its debug file"), "{refused}");
    let elf = ElfFile::read(&bare).unwrap();
    let id: String = elf.build_id().unwrap().id.iter().map(|byte| format!("{byte:02x}")).collect();
    let by_id = near.path().join(".build-id").join(&id[..2]);
    fs::create_dir_all(&by_id).unwrap();
    fs::rename(near.path().join("moved"), by_id.join(format!("{}.debug", &id[2..]))).unwrap();
    assert_eq!(shown(&read(&live, &victim).stdout), "4");
    // A symbol alone needs none of it.
    assert_eq!(with(&live, &["read", &pid, "cfg", "4"], &[]).code, 0);
    stop(&mut live);

    let victim = folder.path().to_str().unwrap();
    each_path_leads_where_it_should(&mut live, "/noid", &["--victim", victim]);
    let (pid, _) = start(&mut live, "/split");
    let ran = with(&live, &["read", &pid, "cfg.dims[1]"], &[]);
    assert!(ran.fails_with(6).contains("-gsplit-dwarf"));
}

/// What `text` leads to in `file` of which nothing is loaded: the types alone.
fn look(file: &Vec<u8>, symbol: &(String, u64), text: &str) -> Option<()> {
    let sections = Sections::read(file).ok()?;
    let dwarf = Dwarf::parse(&sections).ok()?;
    let id = dwarf.variable(&symbol.0, symbol.1).ok()??;
    let types: &dyn Types = &dwarf;
    let ways = Expression::all(text);
    let way = ways.iter().find(|way| way.root == Root::Symbol(&symbol.0))?;
    let start = Start::Object(vmfi::address::Gva(symbol.1), id);
    let (_, found) = way.follow(types, start, &|_| Some(0x1000)).ok()?;
    let size = types.size(found).ok()??.min(1 << 16);
    types.name(found).ok()?;
    value_of(types, found, &vec![0xa5; size as usize]).ok()?.to_string();
    types.named("struct config").ok()?.map(drop)
}

/// However it is damaged, debugging information is read to an end.
#[test]
fn damaged_debugging_information_is_survived() {
    for name in ["typed-4", "typed-5"] {
        let path = fixture(name);
        let elf = ElfFile::read(&path).unwrap();
        let symbol = ("cfg".to_owned(), elf.symbol("cfg").unwrap().address);
        let whole = fs::read(&path).unwrap();
        assert!(look(&whole, &symbol, "cfg.parent->corners[1]").is_some(), "{name}");
        let sections = Sections::read(&whole).unwrap();
        for section in [".debug_info", ".debug_abbrev", ".debug_str"] {
            let bytes = sections.bytes(section).unwrap().unwrap();
            let start = memchr::memmem::find(&whole, &bytes).unwrap();
            for (number, at) in (start..start + bytes.len()).enumerate() {
                let mut bad = whole.clone();
                bad[at] = [0x00, 0xff, 0x7f, 0x80, 0x01][number % 5];
                look(&bad, &symbol, "cfg.parent->corners[1]");
                look(&bad, &symbol, "cfg");
            }
        }
    }
}
