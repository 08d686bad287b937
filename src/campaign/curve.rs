//! What variables of the program were in each of its iterations, looked at from outside while it runs.

use super::variable::value_at;
use super::watch::LOOK;
use crate::site::Space;
use crate::when::Spot;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Of more iterations none is kept: a counter that a fault has hit may count anything.
const MOST_POINTS: usize = 100_000;

/// What was seen of an iteration.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What the program's counter was.
    pub iteration: i64,
    /// When it was first seen there, from the program's start on.
    pub at: Duration,
    /// The last that was seen of each variable before the counter went on; none where it could not be
    /// read.
    pub values: Vec<Option<f64>>,
}

/// Looks at variables, iteration by iteration.
pub struct Sampler<'s> {
    space: Space<'s>,
    counter: Spot,
    variables: Vec<Spot>,
    points: BTreeMap<i64, Point>,
}

impl<'s> Sampler<'s> {
    /// Looks at `variables` in `space`, where a program counts its iterations in `counter`.
    pub fn new(space: Space<'s>, counter: Spot, variables: Vec<Spot>) -> Self {
        Self { space, counter, variables, points: BTreeMap::new() }
    }

    /// Looks until `over`, and once more then; `started` is when the program began.
    pub fn watch(mut self, started: Instant, over: &AtomicBool) -> Vec<Point> {
        loop {
            let last = over.load(Ordering::Acquire);
            self.look(started);
            if last {
                return self.points.into_values().collect();
            }
            sleep(LOOK);
        }
    }

    fn look(&mut self, started: Instant) {
        let Some(iteration) = self.iteration() else { return };
        let at = started.elapsed();
        let values = self.variables.iter().map(|spot| value_at(spot, self.space)).collect();
        // What was read while the counter went on is of neither iteration.
        if self.iteration() == Some(iteration) {
            note(&mut self.points, Point { iteration, at, values });
        }
    }

    fn iteration(&self) -> Option<i64> {
        value_at(&self.counter, self.space).map(|count| count as i64)
    }
}

/// The latest look at an iteration counts; what cannot be read any more is as it was.
fn note(points: &mut BTreeMap<i64, Point>, now: Point) {
    let full = points.len() == MOST_POINTS;
    match points.get_mut(&now.iteration) {
        Some(known) => {
            for (known, now) in known.values.iter_mut().zip(now.values) {
                *known = now.or(*known);
            }
        }
        None if full => {}
        None => drop(points.insert(now.iteration, now)),
    }
}

/// How long an iteration takes on average: the first that was seen may have begun at any time before.
pub fn iteration_time(points: &[Point]) -> Option<Duration> {
    let (first, last) = points.get(1).zip(points.last())?;
    let count = last.iteration.checked_sub(first.iteration).filter(|count| *count > 0)?;
    Some(last.at.saturating_sub(first.at).div_f64(count as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(iteration: i64, ms: u64, value: Option<f64>) -> Point {
        Point { iteration, at: Duration::from_millis(ms), values: vec![value] }
    }

    #[test]
    fn the_last_look_at_an_iteration_counts() {
        let mut points = BTreeMap::new();
        for (iteration, ms, value) in
            [(0, 1, None), (0, 2, Some(7.0)), (1, 3, Some(7.0)), (1, 4, Some(5.0)), (1, 5, None)]
        {
            note(&mut points, point(iteration, ms, value));
        }
        let all: Vec<_> = points.into_values().collect();
        assert_eq!(all, [point(0, 1, Some(7.0)), point(1, 3, Some(5.0))]);
    }

    #[test]
    fn a_counter_that_counts_anything_fills_no_memory() {
        let mut points = BTreeMap::new();
        (0..MOST_POINTS as i64 + 9).for_each(|count| note(&mut points, point(count, 1, None)));
        assert_eq!(points.len(), MOST_POINTS);
        note(&mut points, point(3, 2, Some(1.0)));
        assert_eq!(points[&3].values, [Some(1.0)]);
    }

    #[test]
    fn an_iteration_takes_the_mean() {
        let points = |all: &[(i64, u64)]| {
            iteration_time(&all.iter().map(|(own, ms)| point(*own, *ms, None)).collect::<Vec<_>>())
        };
        // What came before the first is no iteration.
        let seen = points(&[(0, 0), (1, 300), (2, 310), (4, 360)]);
        assert_eq!(seen, Some(Duration::from_millis(20)));
        assert_eq!((points(&[]), points(&[(0, 0), (1, 5)])), (None, None));
        assert_eq!(points(&[(i64::MIN, 0), (-9, 1), (i64::MAX, 5)]), None);
    }
}
