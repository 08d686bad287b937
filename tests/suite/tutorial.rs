//! docs/tutorial.md, done as it says: every file of it written, every command run, in one folder.

use crate::common::project;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A block of the page between fences.
enum Block {
    /// The file of this name.
    File(String, String),
    /// Commands, one after the other.
    Commands(Vec<String>),
}

/// The blocks of `page`: behind the fence stands `LANGUAGE NAME` of a file, or `console`.
fn blocks(page: &str) -> Vec<Block> {
    let parts: Vec<_> = page.split("```").collect();
    // Every second part is between two fences.
    parts.iter().skip(1).step_by(2).filter_map(|part| block(part)).collect()
}

fn block(part: &str) -> Option<Block> {
    let (head, body) = part.split_once('\n')?;
    match head.split_once(' ') {
        Some((_, name)) => Some(Block::File(name.to_owned(), body.to_owned())),
        None if head == "console" => {
            let commands = body.lines().filter_map(|line| line.strip_prefix("$ "));
            Some(Block::Commands(commands.map(str::to_owned).collect()))
        }
        None => None,
    }
}

/// Runs `command` as its reader does; what it printed.
fn typed(command: &str, folder: &Path) -> String {
    let vmfi = Path::new(env!("CARGO_BIN_EXE_vmfi"));
    let vmfi = vmfi.parent().unwrap().display();
    // Debian's Python is the one that has pandas.
    let path = format!("{vmfi}:/usr/bin:{}", env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-o", "pipefail", "-c", command]).current_dir(folder).env("PATH", path);
    let ran = shell.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{command}: {}\n{said}", ran.status);
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn every_command_does_what_the_page_says() {
    let page = fs::read_to_string(project("docs/tutorial.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut printed = String::new();
    for block in blocks(&page) {
        match block {
            Block::File(name, text) => fs::write(path(&name), text).unwrap(),
            Block::Commands(all) => {
                all.iter().for_each(|command| printed += &typed(command, folder.path()));
            }
        }
    }
    let same = "u[16] = 85.572712, heat = 3200.000000000";
    assert_eq!(
        printed.lines().filter(|line| *line == same).count(),
        2,
        "on the host, in the guest"
    );
    for name in ["checked.html", "trials.csv", "injections.csv", "report.json"] {
        assert!(fs::metadata(path(name)).unwrap().len() > 1000, "{name}");
    }
}
