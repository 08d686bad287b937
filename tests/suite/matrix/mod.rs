//! Which guests are understood: `make test-matrix` boots one for each combination in [`axes`],
//! proves each with nothing given but its memory, and writes docs/support-matrix.md.
//!
//! With CELLS=WORD in the environment only the combinations are tried that have WORD in their
//! line, and nothing is written.

mod axes;
mod cell;
mod page;

use crate::common::project;
use axes::{Axis, axes};
use cell::{Proved, prove};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Instant;

/// What was proved of a cell, or why it failed.
type Outcome = Result<Proved, String>;

#[test]
#[ignore = "boots a guest for each of many combinations: `make test-matrix`"]
fn support_matrix() {
    let only = std::env::var("CELLS").unwrap_or_default();
    let mut axes = axes();
    for axis in &mut axes {
        axis.cells.retain(|cell| cell.to_string().contains(&only));
    }
    let outcomes = outcomes(&axes);
    if only.is_empty() {
        fs::write(project("docs/support-matrix.md"), page::page(&axes, &outcomes)).unwrap();
    }
    let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert!(!outcomes.is_empty(), "no combination has '{only}' in its line");
    assert_eq!(failed, 0, "{failed} of {} combinations failed", outcomes.len());
}

/// What comes of each cell, in their order; a line is printed as each is done. A guest keeps a
/// CPU of the host busy, so there are some at a time.
fn outcomes(axes: &[Axis]) -> Vec<Outcome> {
    let cells: Vec<_> = axes.iter().flat_map(|axis| &axis.cells).collect();
    let outcomes: Vec<_> = cells.iter().map(|_| OnceLock::new()).collect();
    let queue = Mutex::new(cells.iter().zip(&outcomes));
    let (next, done) = (|| queue.lock().unwrap().next(), AtomicUsize::new(0));
    let work = || {
        while let Some((cell, place)) = next() {
            let (started, outcome) = (Instant::now(), prove(cell));
            let count = done.fetch_add(1, Ordering::Relaxed) + 1;
            let (total, seconds) = (cells.len(), started.elapsed().as_secs());
            println!("{count:>2}/{total} {seconds:>3} s  {cell}: {}", verdict(&outcome));
            place.set(outcome).unwrap();
        }
    };
    let at_a_time = thread::available_parallelism().map_or(1, usize::from).min(4);
    println!();
    thread::scope(|scope| (0..at_a_time).for_each(|_| drop(scope.spawn(work))));
    outcomes.into_iter().map(|outcome| outcome.into_inner().unwrap()).collect()
}

/// One line.
fn verdict(outcome: &Outcome) -> String {
    match outcome {
        Ok(_) => "proved".to_owned(),
        Err(why) => format!("FAILED: {why}"),
    }
}
