//! Console sessions on synthetic images (`fixtures/images`), each a file of `tests/golden/IMAGE`:
//! what is typed, and what comes of it. Behind each command stand standard output, standard error,
//! the exit code where it is not 0, and each word of guest RAM that changed.
//!
//! `GOLDEN=write` writes what comes of it now; look at the difference.

use crate::common::{project, run};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use vmfi_images::Image;

const WORD: usize = 8;
const PAGE: usize = 4096;
const BUFFER: usize = 256 << 10;

/// A shell in the folder of an image.
struct Session {
    folder: tempfile::TempDir,
    /// What was exported until now.
    exports: String,
    /// RAM after the last command.
    ram: Vec<u8>,
}

impl Session {
    fn new(image: Image) -> Self {
        let folder = tempfile::tempdir().unwrap();
        image.write(folder.path()).unwrap();
        for name in ["vmfi", "kmem"] {
            symlink(env!("CARGO_BIN_EXE_vmfi"), folder.path().join(name)).unwrap();
        }
        let ram = fs::read(folder.path().join("ram")).unwrap();
        Self { folder, exports: String::new(), ram }
    }

    /// Types every command of `text`, and gives it with what comes of each.
    fn play(mut self, text: &str) -> String {
        let mut played = String::new();
        for line in text.lines() {
            if line.starts_with('#') {
                played += &format!("{line}\n");
            } else if let Some(command) = line.strip_prefix("$ ") {
                played += &format!("{line}\n{}", self.enter(command));
            }
        }
        played
    }

    fn enter(&mut self, command: &str) -> String {
        if command.starts_with("export ") {
            self.exports += &format!("{command}; ");
            return String::new();
        }
        let mut shell = Command::new("sh");
        // Set from within: with another PATH outside, our own memory would be copied for each.
        shell.arg("-c").arg(format!("PATH=.:$PATH; {}{command}", self.exports));
        let ran = run(self.folder.path(), &mut shell);
        let tells = |line: &str| line.starts_with("vmfi: ") || line.starts_with("kmem: ");
        assert!(!ran.stdout.lines().any(tells), "on standard output: {}", ran.stdout);
        assert!(ran.stderr.lines().all(tells), "{command}: {}", ran.stderr);
        let code = if ran.code == 0 { String::new() } else { format!("[exit {}]\n", ran.code) };
        without_times(&ran.stdout) + &ran.stderr + &code + &self.changes()
    }

    /// The words of RAM that changed since this was asked last.
    fn changes(&mut self) -> String {
        let file = File::open(self.folder.path().join("ram")).unwrap();
        let mut file = BufReader::with_capacity(BUFFER, file);
        let mut now = [0; PAGE];
        let mut changed = String::new();
        for (page, at) in self.ram.chunks_mut(PAGE).zip((0..).step_by(PAGE)) {
            file.read_exact(&mut now).unwrap();
            if *page != now {
                changed += &changed_words(at, page, &now);
                page.copy_from_slice(&now);
            }
        }
        changed
    }
}

/// What changed in the page at `at`.
fn changed_words(at: usize, before: &[u8], after: &[u8]) -> String {
    let words = before.chunks(WORD).zip(after.chunks(WORD)).zip((at..).step_by(WORD));
    let changed = words.filter(|((before, after), _)| before != after);
    let line =
        |((before, after), at)| format!("[ram {at:#x}: {} -> {}]\n", hex(before), hex(after));
    changed.map(line).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is printed without what no two runs have alike: the times of a receipt, and how much of the
/// RAM file a file system keeps.
fn without_times(text: &str) -> String {
    let line = |line: &str| match line.split_once(": ") {
        Some((key @ ("  \"time\"" | "  \"monotonic_ns\""), _)) => format!("{key}: ...\n"),
        _ => format!("{}\n", without_use(line)),
    };
    text.lines().map(line).collect()
}

fn without_use(line: &str) -> String {
    const IN_USE: &str = " of them in use";
    let Some((before, after)) = line.split_once(IN_USE) else { return line.to_owned() };
    let kept = before.trim_end_matches(|letter: char| letter.is_ascii_digit());
    format!("{kept}...{IN_USE}{after}")
}

/// Plays every session of the folder `name`, each on an image of its own, and all at once: where
/// vmfi looks again before it refuses, it waits.
fn play(name: &str, image: fn() -> Image) {
    let files = fs::read_dir(project("tests/golden").join(name)).unwrap();
    let files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    assert!(!files.is_empty());
    thread::scope(|scope| {
        for file in &files {
            scope.spawn(|| check(file, Session::new(image())));
        }
    });
}

fn check(file: &Path, session: Session) {
    let expected = fs::read_to_string(file).unwrap();
    keep(file, &session.play(&expected));
}

/// Proves that `file` holds just `found`, or writes it there.
pub fn keep(file: &Path, found: &str) {
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        return fs::write(file, found).unwrap();
    }
    let expected = fs::read_to_string(file).unwrap();
    assert!(found == expected, "{}:\n{}", file.display(), differing(&expected, found));
}

/// The first lines that differ.
fn differing(expected: &str, played: &str) -> String {
    let same = expected.lines().zip(played.lines()).take_while(|(one, other)| one == other).count();
    let from = |text: &str| text.lines().skip(same).take(3).collect::<Vec<_>>().join("\n");
    format!("expected, from line {} on:\n{}\nfound:\n{}", same + 1, from(expected), from(played))
}

#[test]
fn modern() {
    play("modern", || Image::modern().crowded());
}

#[test]
fn of_5_10() {
    play("5.10", || Image::of_5_10().crowded());
}

#[test]
fn of_2_6_33() {
    play("2.6.33", || Image::of_2_6_33().crowded());
}

#[test]
fn damaged() {
    play("damaged", || Image::modern().with_damaged_task_list());
}

/// What README shows is what comes of it.
#[test]
fn readme() {
    // The folder's RAM file stands for the one of QEMU.
    let readme = fs::read_to_string(project("README.md")).unwrap().replace("/dev/shm/guest", "ram");
    let blocks = readme.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let shown: String = blocks.map(without_indent).collect();
    let mut session = Session::new(Image::modern());
    // All that is needed is typed, but for what so small an image does not tell itself.
    fs::remove_file(session.folder.path().join("vmfi.toml")).unwrap();
    session.exports = "export VMFI_SYSTEM_MAP=kallsyms VMFI_VICTIM=hpccg; ".to_owned();
    let played = session.play(&shown);
    let played: String =
        played.split_inclusive('\n').filter(|line| !line.starts_with("[ram")).collect();
    assert!(played == shown, "README.md:\n{}", differing(&shown, &played));
    for command in ["$ vmfi list", "$ vmfi inject 198 rtrans 6 4 0"] {
        assert!(shown.contains(command), "README.md does not show '{command}'");
    }
}

/// A block within a list is indented, as its first line shows; so is the fence that ends it.
fn without_indent(block: &str) -> String {
    let indent = block.len() - block.trim_start_matches(' ').len();
    let lines = block.trim_end_matches(' ').lines();
    lines.map(|line| format!("{}\n", &line[indent..])).collect()
}
