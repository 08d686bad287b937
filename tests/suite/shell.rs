//! What `make install` gives to shells and `man`.

use crate::common::vmfi;
use std::fs;
use std::process::Command;

const OPTIONS: [&str; 6] =
    ["--memory", "--ram-size", "--ram-layout", "--system-map", "--wrapper-name", "--config"];

fn completions(shell: &str) -> String {
    let ran = vmfi(["shell", "completions", shell]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    ran.stdout
}

#[test]
fn completions_name_commands_and_options() {
    for shell in ["bash", "zsh", "fish"] {
        let text = completions(shell);
        for word in ["list", "inject", "read", "victim", "dry-run"] {
            assert!(text.contains(word), "{shell}: no {word}");
        }
        for option in OPTIONS {
            assert!(text.contains(option.trim_start_matches('-')), "{shell}: no {option}");
        }
        assert!(!text.contains("make install"), "{shell}: offers the hidden command");
    }
}

/// What bash offers for `words`, of which the last is being typed.
fn offered(words: &[&str]) -> String {
    let script = r#"COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _vmfi vmfi "${@: -1}" "${@: -2:1}"; echo "${COMPREPLY[*]}""#;
    let mut bash = Command::new("bash");
    bash.args(["-c", &(completions("bash") + script), "bash"]).args(words);
    let output = bash.output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn bash_completes() {
    assert_eq!(offered(&["vmfi", "inj"]), "inject");
    assert_eq!(offered(&["vmfi", "inject", "--chi"]), "--child");
    assert_eq!(offered(&["vmfi", "list", "--mem"]), "--memory");
    assert_eq!(offered(&["vmfi", "sh"]), "");
}

#[test]
fn manual_pages_for_each_command_that_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let ran = vmfi(["shell", "man", folder.path().to_str().unwrap()]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "", ""));
    assert!(!folder.path().join("vmfi-shell.1").exists());
    let targets = fs::read_to_string(folder.path().join("vmfi-targets.1")).unwrap();
    assert!(targets.contains("gnu_debuglink"), "{targets}");
    for name in ["vmfi.1", "vmfi-list.1", "vmfi-inject.1", "vmfi-read.1", "kmem.1"] {
        // Hyphens are escaped in roff.
        let text = fs::read_to_string(folder.path().join(name)).unwrap().replace('\\', "");
        for word in OPTIONS.iter().chain(&["VMFI_MEMORY"]) {
            assert!(text.contains(word), "{name}: no {word}");
        }
        assert!(!text.contains("vmfi-shell"), "{name}: shows the hidden command");
    }
}

#[test]
fn a_folder_that_cannot_be_written_to() {
    assert!(vmfi(["shell", "man", "/no/such/folder"]).fails_with(1).contains("/no/such/folder"));
}
