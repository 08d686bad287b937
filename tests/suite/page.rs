//! The report's page, in a browser; and its plots as files. The store is made up: no guest has run.

use crate::browser::Browser;
use crate::common::vmfi;
use rusqlite::{Connection, params};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use vmfi::campaign::store::{DIGEST, Facts, PLAN, PLAN_PATH, SHARD, Store};
use vmfi::campaign::{Draw, Kind, Plan, Trial};

const TRIALS: u64 = 280;
/// What would be run if anything of a store were taken for a part of the page.
const HOSTILE: &str = "</script><script>window.hacked = 1</script><img src=http://192.0.2.1/x onerror='window.hacked = 1'>\u{1b}[31m\u{202e}";
const OUTCOMES: [&str; 7] =
    ["masked", "sdc", "crash", "hang", "detected", "guest_crash", "not_injected"];
const PLOTS: [&str; 11] = [
    "outcomes",
    "map-0",
    "map-1",
    "bits-0",
    "bits-1",
    "moments",
    "metric-cpu-time",
    "metric-iterations",
    "metric-told",
    "agreement",
    "curve-normr",
];

/// A plan with two targets, two metrics and a curve.
fn plan() -> Plan {
    let text = format!(
        "name = {}\ntrials = {TRIALS}\ngolden = 10\nnull = 2\n\
         [program]\ncommand = ['v']\ncounter = 'k'\n\
         [[target]]\nat = 'x'\n[[target]]\nat = 'y'\ntype = 'i32'\n[[fault]]\nflip = 1\n\
         [when]\nover = 'iterations'\n\
         [[metric]]\nname = 'told'\nregex = '(t)'\n[[metric]]\nname = {}\nregex = '(u)'\nrelative = 0.1\n\
         [[curve]]\nvariable = 'normr'\n",
        json!(HOSTILE.replace('\u{1b}', "")),
        json!(HOSTILE.replace('\u{1b}', "")),
    );
    Plan::parse(text, Path::new("p.toml")).unwrap()
}

fn trials() -> Vec<Trial> {
    let kinds = [(Kind::Injected, TRIALS), (Kind::Null, 2), (Kind::Golden, 10)];
    let kinds = kinds.into_iter().flat_map(|(kind, count)| vec![kind; count as usize]);
    let trial = |(number, kind): (u64, Kind)| {
        let draw = Draw { number: 0, target: (number % 2) as usize, fault: 0, at: 0.5 };
        let injections = if kind == Kind::Golden { Vec::new() } else { vec![draw] };
        Trial { number, kind, seed: number, injections }
    };
    (1..).zip(kinds).map(trial).collect()
}

/// A folder with a store `a.db` of finished runs: trial 7 k + n came to the outcome n.
fn study() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let plan = plan();
    let digest = plan.digest();
    let facts = [(PLAN, &*plan.text), (PLAN_PATH, HOSTILE), (DIGEST, &digest), (SHARD, "0/1")];
    let facts: Facts = facts.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Store::open(&path).unwrap().begin(&facts, &trials()).unwrap();
    let store = Connection::open(path).unwrap();
    store.execute_batch("BEGIN").unwrap();
    trials().iter().for_each(|trial| finish(&store, trial));
    store.execute_batch("COMMIT").unwrap();
    folder
}

fn outcome(trial: &Trial) -> &'static str {
    if trial.kind == Kind::Injected { OUTCOMES[(trial.number % 7) as usize] } else { "masked" }
}

fn finish(store: &Connection, trial: &Trial) {
    let (number, outcome) = (trial.number as i64, outcome(trial));
    let run = "UPDATE trials SET outcome = ?2, why = ?3, tolerated = ?4, boot = 0, landed = 1, exit_status = 0, \
        time_ns = 10000000, cpu_time_ns = 5000000, host_cpu_time_ns = 6000000, iterations = 40, host = ?3, \
        finished = '2026-11-29T00:00:00Z' WHERE number = ?1";
    let tolerated = outcome == "masked" && number % 3 == 0;
    store.execute(run, params![number, outcome, HOSTILE, tolerated]).unwrap();
    let made = "UPDATE injections SET landed = ?2, receipt = ?3, time_ns = ?4, iteration = ?5, fate = 'overwritten', \
        fate_by = ?6 WHERE trial = ?1";
    let iteration = 1 + number * 13 % 40;
    let receipt = (outcome != "not_injected").then(|| receipt(trial).to_string());
    let cells =
        params![number, receipt.is_some(), receipt, iteration * 250_000, iteration as f64, HOSTILE];
    store.execute(made, cells).unwrap();
    for (name, value) in metrics(trial) {
        let metric = "INSERT INTO metrics VALUES (?1, ?2, ?3, ?4)";
        let known = Some(value).filter(|value| value.is_finite());
        store.execute(metric, params![number, name, known, value.to_string()]).unwrap();
    }
    for iteration in 0..40 {
        let sample = "INSERT INTO samples VALUES (?1, 'normr', ?2, 0, ?3)";
        let value = 1000.0 * 0.5_f64.powi(iteration) * (1.0 + number as f64);
        store.execute(sample, params![number, iteration, value]).unwrap();
    }
}

/// A double with one bit flipped, or a whole number.
fn receipt(trial: &Trial) -> serde_json::Value {
    let (size, bits) = if trial.number.is_multiple_of(2) { (8, 64) } else { (4, 32) };
    let before = 0.01_f64.to_bits();
    let after = before ^ (1 << (trial.number / 2 % bits));
    let hex = |bits: u64| {
        bits.to_le_bytes()[..size].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    json!({
        "symbol": HOSTILE, "offset": 0, "gva": "0x1000", "gpa": "0x1000", "size": size, "fault": "flip 1",
        "before": hex(before), "after": hex(after), "overwritten": false, "atomic": true, "time": ""
    })
}

/// As faults make them: huge, none, and beyond all numbers.
fn metrics(trial: &Trial) -> Vec<(String, f64)> {
    let told = match (trial.kind, trial.number % 11) {
        (Kind::Golden, _) => 1e-8,
        (_, 0) => f64::NAN,
        (_, 1) => f64::INFINITY,
        (_, 2) => 1e300,
        (_, other) => 1e-8 * other as f64,
    };
    let iterations = if trial.number % 20 == 3 { 4e9 } else { 40.0 };
    let metrics = [
        ("told", told),
        (&HOSTILE.replace('\u{1b}', ""), told * 2.0),
        ("cpu_time", 0.005),
        ("iterations", iterations),
    ];
    metrics.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// How many trials came to the outcome of that index.
fn of_outcome(index: u64) -> u64 {
    (1..=TRIALS).filter(|number| number % 7 == index).count() as u64
}

/// The page of the study in `folder`.
fn page(folder: &Path) -> PathBuf {
    let path = folder.join("a.html");
    let ran =
        vmfi(["report", folder.join("a.db").to_str().unwrap(), "--html", path.to_str().unwrap()]);
    assert_eq!((ran.code, &*ran.stderr), (0, ""));
    assert_eq!(ran.stdout, format!("{}\n", path.display()));
    path
}

fn shown(browser: &mut Browser) -> (String, u64) {
    let text = browser.eval("document.querySelector('.shown').textContent");
    let rows = browser.eval("document.querySelectorAll('.runs tbody tr').length");
    (text.as_str().unwrap().to_owned(), rows.as_u64().unwrap())
}

fn choose(browser: &mut Browser, name: &str, value: &str) {
    browser.eval(&format!(
        "{{ const field = document.forms[0].elements['{name}']; field.value = '{value}';
        field.dispatchEvent(new Event('input', {{ bubbles: true }})); }}"
    ));
}

#[test]
fn the_page_is_whole_and_harmless() {
    let folder = study();
    let path = page(folder.path());
    let mut browser = Browser::open(1280, 900);
    browser.prefer("screen", "light");
    browser.visit(&path, "");
    for plot in PLOTS {
        let svg = format!("document.querySelector('#s1-{plot} svg')");
        assert!(browser.eval(&format!("{svg} !== null")) == true, "there is no plot {plot}");
        let size = browser.eval(&format!(
            "(() => {{ const box = {svg}.getBoundingClientRect(); return Math.min(box.width, 2 * box.height); }})()"
        ));
        assert!(size.as_f64().unwrap() > 300.0, "{plot}: {size}");
        let marks =
            browser.eval(&format!("{svg}.querySelectorAll('rect, polyline, circle').length"));
        assert!(marks.as_u64().unwrap() > 5, "{plot} has {marks} marks");
        let told = browser.eval(&format!(
            "{svg}.getAttribute('role') === 'img' && {svg}.getAttribute('aria-labelledby').split(' ')
                .every((id) => document.getElementById(id).textContent.length > 5)"
        ));
        assert!(told == true, "{plot} is not told in words");
    }
    let figures = browser.eval("document.querySelectorAll('figure svg').length");
    assert_eq!(figures, PLOTS.len() as u64 + 1, "the metric with the hostile name has one too");
    assert_eq!(browser.eval("typeof window.hacked"), "undefined");
    assert!(browser.eval("document.body.textContent.includes('window.hacked = 1')") == true);
    assert!(browser.eval("document.body.innerText.includes('\\u202e')") == false);
    for complaint in ["Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"] {
        assert_eq!(browser.told(complaint), Vec::<&serde_json::Value>::new());
    }
    let requests = browser.told("Network.requestWillBeSent");
    let asked: BTreeSet<_> =
        requests.iter().map(|own| own["params"]["request"]["url"].as_str().unwrap()).collect();
    let beyond: Vec<_> = asked.iter().filter(|url| !url.starts_with("data:")).collect();
    assert_eq!(beyond, [&&*format!("file://{}", path.display())]);
}

#[test]
fn every_run_can_be_found() {
    let folder = study();
    let path = page(folder.path());
    let mut browser = Browser::open(1280, 900);
    browser.visit(&path, "");
    let all = TRIALS + 12;
    assert_eq!(shown(&mut browser), (format!("{all} of {all} runs"), 200));
    browser.eval("document.querySelector('button[name=on]').click()");
    assert_eq!(shown(&mut browser).1, all - 200);
    choose(&mut browser, "outcome", "sdc");
    let sdc = of_outcome(1);
    assert_eq!(shown(&mut browser), (format!("{sdc} of {all} runs"), sdc));
    assert_eq!(browser.eval("location.hash"), "#s1-rows?outcome=sdc");
    let others = "[...document.querySelectorAll('.runs td.outcome')].filter((own) => own.textContent !== 'sdc').length";
    assert_eq!(browser.eval(others), 0);
    choose(&mut browser, "target", "y");
    let of_y = (1..=TRIALS).filter(|number| number % 7 == 1 && number % 2 == 1).count() as u64;
    assert_eq!(shown(&mut browser).1, of_y);
    browser.eval("document.querySelector('button[type=reset]').click()");
    browser.eval("new Promise((done) => setTimeout(done, 50))");
    assert_eq!(shown(&mut browser).0, format!("{all} of {all} runs"));
    browser.eval("document.forms[0].elements.text.focus()");
    browser.type_in("HANG");
    assert_eq!(shown(&mut browser).1, of_outcome(3));
    // As one who got the link sees it.
    browser.visit(&path, "#s1-rows?outcome=crash&bit=9");
    let hit = |number: &u64| {
        number % 7 == 2 && number / 2 % if number.is_multiple_of(2) { 64 } else { 32 } == 9
    };
    assert_eq!(shown(&mut browser).1, (1..=TRIALS).filter(hit).count() as u64);
    assert_eq!(browser.eval("document.forms[0].elements.bit.value"), "9");
}

#[test]
fn it_fits_phones_the_dark_and_paper() {
    let folder = study();
    let path = page(folder.path());
    let color = "getComputedStyle(document.documentElement).backgroundColor";
    let letters = "getComputedStyle(document.querySelector('figure svg text')).fill";
    let mut seen = Vec::new();
    for (width, scheme) in [(390, "light"), (390, "dark"), (1280, "dark")] {
        let mut browser = Browser::open(width, 844);
        browser.prefer("screen", scheme);
        browser.visit(&path, "");
        let wide = browser.eval("document.documentElement.scrollWidth");
        assert!(wide.as_u64().unwrap() <= u64::from(width), "{wide} of {width} pixels");
        seen.push((browser.eval(color), browser.eval(letters)));
        browser.prefer("print", scheme);
        assert_eq!(
            browser.eval("getComputedStyle(document.querySelector('.filter')).display"),
            "none"
        );
        assert_eq!(browser.eval(color), "rgb(255, 255, 255)");
    }
    assert_eq!(seen[1], seen[2]);
    assert!(seen[0].0 != seen[1].0 && seen[0].1 != seen[1].1, "{seen:?}");
}

#[test]
fn plots_as_files() {
    let folder = study();
    let (store, plots) = (folder.path().join("a.db"), folder.path().join("all/plots"));
    let (store, plots) = (store.to_str().unwrap(), plots.to_str().unwrap());
    let ran = vmfi(["report", store, "--plots", plots]);
    assert_eq!((ran.code, &*ran.stderr), (0, ""));
    let written: BTreeSet<_> = ran.stdout.lines().map(str::to_owned).collect();
    for plot in PLOTS {
        let path = format!("{plots}/{plot}.svg");
        assert!(written.contains(&path), "{plot} is not told: {}", ran.stdout);
        let svg = fs::read_to_string(path).unwrap();
        assert!(
            svg.starts_with("<svg ") && svg.contains("xmlns=") && !svg.contains("var("),
            "{plot}"
        );
        assert!(!svg.contains('\u{1b}') && !svg.contains("<script"), "{plot}");
    }
    vmfi(["report", store, "--plots", &format!("{store}/plots")]).fails_with(1);
    vmfi(["report", store, "--html", plots, "--json"]).fails_with(2);
}
