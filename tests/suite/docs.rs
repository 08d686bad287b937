//! Pages of docs/ that are what a command prints. `GOLDEN=write` writes them anew.

use crate::common::{project, vmfi_in};
use crate::golden::keep;

/// What `vmfi` prints, whatever is set and wherever it runs.
fn printed(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let set = [("VMFI_MEMORY", "/set/ram"), ("COLUMNS", "60")];
    let ran = vmfi_in(folder.path(), &set, arguments);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    ran.stdout
}

#[test]
fn faults() {
    let text = printed(&["help", "faults"]);
    keep(&project("docs/faults.md"), &text);
    assert!(text.contains("    --flip N\n") && !text.contains("{models}"));
}

#[test]
fn reference() {
    let page = printed(&["shell", "reference"]);
    keep(&project("docs/reference.md"), &page);
    for section in ["## vmfi inject", "## vmfi replay", "## kmem", "[when.md](when.md)"] {
        assert!(page.contains(section), "no {section}");
    }
    for hidden in ["vmfi shell --", "resume-guard", "/set/ram"] {
        assert!(!page.contains(hidden), "shows {hidden}");
    }
}

/// Every topic is a command and the help of it, and listed with the others.
#[test]
fn topics() {
    let same = ["targets", "faults", "when", "record", "plan", "data"].map(|topic| (topic, topic));
    for (topic, page) in same.into_iter().chain([("campaigns", "campaign")]) {
        let page = std::fs::read_to_string(project(&format!("docs/{page}.md"))).unwrap();
        for arguments in [&["help", topic][..], &[topic], &[topic, "--help"]] {
            assert_eq!(printed(arguments).trim_end(), page.trim_end(), "{arguments:?}");
        }
        assert!(printed(&["--help"]).contains(&format!("\n  {topic}  ")));
    }
}
