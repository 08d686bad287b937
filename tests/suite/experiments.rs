//! The experiments that are shipped: their plans, and the paper's in small with few runs.

use crate::common::{project, vmfi_in};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use vmfi::campaign::Plan;
use vmfi::campaign::plan::When;

fn text(name: &str) -> String {
    fs::read_to_string(project("experiments").join(name)).unwrap()
}

fn parse(text: &str) -> Plan {
    Plan::parse(text.to_owned(), Path::new("p.toml")).unwrap()
}

/// `text` with `new` in the place of `old`, which must be there.
fn with(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "no '{old}'");
    text.replace(old, new)
}

#[test]
fn each_is_what_it_says() {
    let full = parse(&text("table1.toml"));
    assert_eq!((full.golden, full.trials, full.injections), (30, 30, 20));
    let small = parse(&text("table1-small.toml"));
    assert_eq!((small.published, small.injections), (full.published, 20));
    let bits = parse(&text("bits.toml"));
    assert_eq!((bits.census, bits.trials), (true, 64 * 38));
    let hidden = parse(&text("false-convergence.toml"));
    assert_eq!((hidden.census, hidden.trials), (true, 4 * 10));
}

#[test]
fn the_papers_own_way_is_an_option() {
    let each = "[when]\nover = \"iterations\"\nspread = \"even\"";
    let second = with(&text("table1.toml"), each, "[when]\nevery = \"1s\"");
    let plan = parse(&with(&second, "injections = 20\n", ""));
    assert!(matches!(plan.when, When::Every(interval) if interval.as_secs() == 1));
}

#[test]
fn the_papers_experiment_in_small() {
    let folder = tempfile::tempdir().unwrap();
    let target = project("target").display().to_string();
    let plan = with(&text("table1-small.toml"), "../target", &target);
    let plan = with(&with(&plan, "trials = 10", "trials = 3"), "null = 10", "null = 1");
    fs::write(folder.path().join("table1.toml"), plan).unwrap();
    let vmfi = |arguments: &[&str]| vmfi_in(folder.path(), &[], arguments);
    let ran = vmfi(&["campaign", "run", "table1.toml", "--store", "a.db", "-j", "2"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let report = vmfi(&["report", "a.db", "--json"]).json();
    let metric = |name: &str, kind: &str, what: &str| -> f64 {
        report["metrics"][name][kind][what]
            .as_f64()
            .unwrap_or_else(|| panic!("{name} {kind} {what}"))
    };
    let all = [("golden", 10), ("injected", 3)];
    for (kind, runs) in all {
        assert_eq!(report["metrics"]["iterations"][kind]["runs"], runs);
        let steps = ["min", "max"].map(|what| metric("iterations", kind, what));
        assert_eq!(steps, [56.0; 2], "{kind}");
    }
    let golden = metric("final_residual", "golden", "mean");
    assert_eq!(format!("{golden:.5e}"), "7.38586e-8");
    assert_eq!(metric("final_residual", "golden", "variance"), 0.0);
    // As in the paper, a little below.
    let injected = ["min", "max"].map(|what| metric("final_residual", "injected", what));
    assert!(injected[0] > 7.3857e-8 && injected[1] < golden, "{injected:?}");
    assert_eq!(report["outcomes"]["sdc"]["count"], Value::from(3));
    // The paper's own figures stand beside.
    assert!(vmfi(&["report", "a.db"]).stdout.contains("8.97885e-08"));
    let rows = |what| vmfi(&["report", "a.db", "--csv", what]).stdout;
    fs::write(folder.path().join("trials.csv"), rows("trials")).unwrap();
    fs::write(folder.path().join("injections.csv"), rows("injections")).unwrap();
    pandas(folder.path(), TABLES);
}

/// What must hold of the tables as pandas reads them, told nothing but their names.
const TABLES: &str = "
trials, injections = pandas.read_csv('trials.csv'), pandas.read_csv('injections.csv')
kinds = trials.groupby('kind').size().to_dict()
assert kinds == {'golden': 10, 'injected': 3, 'null_trial': 1}, kinds
assert trials.failed.dtype == bool and trials.metric_final_residual.dtype == float
injected = trials[trials.kind == 'injected']
golden = trials[trials.kind == 'golden']
assert (injected.metric_final_residual < golden.metric_final_residual.max()).all()
assert golden.metric_final_residual.nunique() == 1 and (trials.metric_iterations == 56).all()
assert len(injections) == 4 * 20
# On a busy host the last may come too late.
made = injections[injections.made]
written = made[made.kind == 'injected']
assert len(written) > 50 and (made['size'] == 4).all()
assert written.after.str.fullmatch(\"x'[0-9a-f]{2}000000'\").all()
assert written.iteration.between(0, 56).all() and pandas.to_datetime(written.written).notna().all()
assert not trials.columns.str.startswith('Unnamed').any()
";

/// Runs `script` in `folder` with Debian's Python, which has pandas.
fn pandas(folder: &Path, script: &str) {
    let mut python = Command::new("/usr/bin/python3");
    let ran = python.args(["-c", &format!("import pandas\n{script}")]).current_dir(folder).output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
