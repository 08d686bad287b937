//! The paper's experiment on the solver, live: what is harmless and what is not, judged by the true
//! residual, which the printed one need not tell.

use crate::common::{Live, Ran, kernels};
use vmfi::lab::Setup;

/// Small, and needs more than 40 iterations: 56, to these residuals.
const GRID: &str = "/hpccg 20 100 20";
const TRUE_RESIDUAL: f64 = 4.00661e-08;

/// In the 40th iteration, rtrans is the new r.r, and normr still the root of the old one.
const AFTER_RR: &str =
    "niters == 40 && (rtrans / (normr * normr) < 0.9 || rtrans / (normr * normr) > 1.1)";

/// How a run of the solver ended.
#[derive(Debug)]
struct Solved {
    printed: f64,
    real: f64,
}

impl Solved {
    /// Far from solved, whatever it printed.
    fn wrong(&self) -> bool {
        self.real.is_nan() || self.real > 100.0 * TRUE_RESIDUAL
    }
}

/// Runs the solver on `grid`, and `vmfi inject` with these words meanwhile.
fn solve(live: &mut Live, grid: &str, words: &[&str]) -> (Ran, Solved) {
    let (pid, _) = live.start(grid);
    let ran = live.with_memory_alone(&[&["inject", &pid.to_string()], words].concat());
    let ended = format!("while [ -e /proc/{pid} ]; do sleep 0.1; done; cat /out");
    let lines = live.guest.run(&ended).unwrap();
    let value = |label: &str| {
        let line = lines.iter().find_map(|line| line.strip_prefix(label));
        line.unwrap_or_else(|| panic!("no '{label}' in {lines:?}")).parse().unwrap()
    };
    let solved =
        Solved { printed: value("Final residual: "), real: value("True residual ||b - A*x||: ") };
    (ran, solved)
}

/// As the paper has it: the low half of rtrans replaced every second is as good as nothing.
#[test]
fn every_second_a_random_low_half() {
    let mut live = Live::unknown(&Setup::new(&kernels()[0]));
    let words = ["rtrans", "--every", "1s", "--random", "1..100", "--bytes", "4", "--json"];
    let (ran, solved) = solve(&mut live, "/hpccg 40 80 40", &words);
    let receipts = ran.json();
    let receipts = receipts.as_array().unwrap();
    assert!(receipts.len() > 2, "{receipts:?}");
    let told = format!("{} injections went in: process", receipts.len());
    assert!(ran.stderr.contains(&told) && ran.stderr.contains("ended"), "{}", ran.stderr);
    for receipt in receipts {
        assert_eq!((&receipt["size"], &receipt["atomic"]), (&4.into(), &true.into()));
        let after =
            u32::from_str_radix(receipt["after"].as_str().unwrap(), 16).unwrap().swap_bytes();
        assert!((1..=100).contains(&after), "{receipt}");
    }
    assert!(solved.printed < 1e-7 && solved.real < 1e-7, "{solved:?}");
}

/// Its high half is another matter: the solver stops at once, content with itself, or has no number.
#[test]
fn a_false_convergence_is_recognised() {
    let mut live = Live::unknown(&Setup::new(&kernels()[0]));
    let when = ["--when", AFTER_RR, "--for", "60s", "--json"];
    let mut half =
        |offset| solve(&mut live, GRID, &[&["rtrans", "6", "4", offset], &when[..]].concat());
    // On a busy host the moment may pass unseen, or the next r.r be written over it.
    let (ran, solved) = (0..6).map(|_| half("4")).find(|(_, solved)| solved.wrong()).unwrap();
    let receipt = ran.json();
    assert_eq!(
        (&receipt["trigger"]["values"]["niters"], &receipt["size"]),
        (&40.into(), &4.into())
    );
    assert!(solved.printed.is_nan() || solved.printed < 1e-100, "{solved:?}");
    let (ran, solved) = half("0");
    assert!([0, 9].contains(&ran.code), "{}", ran.stderr);
    assert!(!solved.wrong() && solved.printed < 1e-7, "{solved:?}");
}
