//! Plots of what a store shows: drawn as SVG, with their content told in words and numbers.
//!
//! - [`outcomes`]: what the trials came to. [`map`]: each trial, by its bit and its moment. [`bits`], [`moments`]:
//!   shares by either. [`metrics`]: what was measured. [`agreement`]: two metrics against each other.
//!   [`curves`]: what was seen in each iteration.
//! - [`ink`]: colours. [`axis`]: where values lie. [`frame`]: the sheet. [`bars`]: what is stacked.

mod agreement;
pub mod axis;
mod bars;
mod bits;
mod curves;
mod frame;
pub mod ink;
mod map;
mod metrics;
mod moments;
mod outcomes;

use super::Report;
use super::figure::line;
use super::findings::Findings;
use frame::{Painted, Sheet, WIDTH};
use ink::{Ink, hex};
use plotters::prelude::{IntoDrawingArea, SVGBackend};
use std::collections::BTreeSet;
use std::fmt::Write;

/// No more targets have plots of their own.
const MOST_TARGETS: usize = 6;
/// Names of metrics may be longer than those of files.
const LONGEST_NAME: usize = 64;

/// A plot, or why there is none.
pub struct Plot {
    /// What it is called in files and addresses: letters of ASCII, digits and `-`.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// It, or why not.
    pub drawn: Result<Drawing, String>,
}

/// What was drawn.
pub struct Drawing {
    /// How it is to be read, and what was left out.
    pub caption: String,
    /// What it shows, in words and numbers, for those who do not see it.
    pub description: String,
    svg: String,
}

/// Every plot of a store.
pub fn all(findings: &Findings, report: &Report) -> Vec<Plot> {
    let mut all = vec![outcomes::plot(findings, report)];
    all.extend(map::plots(findings));
    all.extend(bits::plots(findings));
    all.push(moments::plot(findings, report));
    all.extend(metrics::plots(findings, report));
    all.extend(agreement::plot(findings));
    all.extend(curves::plots(findings));
    distinct(&mut all);
    all
}

/// Numbers those that would have the name of another.
fn distinct(plots: &mut [Plot]) {
    let mut taken = BTreeSet::new();
    for plot in plots {
        let plain = plot.name.clone();
        let numbered = (2..).map(|number| format!("{plain}-{number}"));
        let mut names = std::iter::once(plain.clone()).chain(numbered);
        plot.name = names.find(|name| !taken.contains(name)).unwrap_or(plain);
        taken.insert(plot.name.clone());
    }
}

impl Plot {
    fn new(name: &str, title: impl AsRef<str>, drawn: Result<Drawing, String>) -> Self {
        let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        let name = name.chars().map(letter).take(LONGEST_NAME).collect();
        Self { name, title: line(title.as_ref()), drawn }
    }
}

impl Drawing {
    /// What `paint` draws on a sheet that is so high.
    fn of(height: i32, texts: Texts, paint: impl Fn(&Sheet) -> Painted) -> Result<Self, String> {
        let mut svg = String::new();
        let sheet = SVGBackend::with_string(&mut svg, (WIDTH as u32, height.max(1) as u32));
        let sheet = sheet.into_drawing_area();
        let painted = paint(&sheet).and_then(|()| sheet.present());
        drop(sheet);
        painted.map_err(|error| error.to_string())?;
        Ok(Self { caption: line(&texts.caption), description: line(&texts.description), svg })
    }

    /// It as a part of a page that has a variable for each ink; `id` is that of its texts.
    pub fn inline(&self, id: &str, title: &str) -> String {
        let mut svg =
            self.told(&format!(" role=\"img\" aria-labelledby=\"{id}-t {id}-d\""), id, title);
        for (_, name, light, _) in Ink::ALL {
            let color = hex(light);
            for role in ["fill", "stroke"] {
                svg = svg
                    .replace(&format!("{role}=\"{color}\""), &format!("{role}=\"var(--{name})\""));
            }
        }
        svg
    }

    /// It as a file of its own, on white paper.
    pub fn standalone(&self, title: &str) -> String {
        let svg = self.told(" role=\"img\" aria-labelledby=\"t d\"", "", title);
        let paper = format!("<rect width=\"100%\" height=\"100%\" fill=\"{}\"/>\n", hex([0xff; 3]));
        let body = svg.find("</desc>\n").map_or(0, |at| at + "</desc>\n".len());
        let mut svg = svg;
        svg.insert_str(body, &paper);
        svg
    }

    /// With its title and description, and these attributes.
    fn told(&self, attributes: &str, id: &str, title: &str) -> String {
        let (head, body) = self.svg.split_once('>').unwrap_or((&self.svg, ""));
        let dash = if id.is_empty() { "" } else { "-" };
        let mut svg = format!("{head}{attributes}>\n");
        for (tag, short, text) in [("title", "t", title), ("desc", "d", &*self.description)] {
            let text = askama::filters::escape(text, askama::filters::Html);
            let text = text.map(|text| text.to_string()).unwrap_or_default();
            let _ = writeln!(svg, "<{tag} id=\"{id}{dash}{short}\">{text}</{tag}>");
        }
        svg + body.trim_start()
    }
}

/// What is said of a plot.
struct Texts {
    caption: String,
    description: String,
}

/// `count` things of that name.
fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// How many there are of each class, in words.
fn in_words(counts: &ink::Counts) -> String {
    let all = ink::Class::ALL.into_iter().zip(counts).filter(|(_, count)| **count > 0).rev();
    let all: Vec<_> = all.map(|(class, count)| format!("{count} {}", class.name())).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{findings, runs, written};
    use super::*;
    use crate::campaign::Kind;
    use crate::campaign::outcome::Outcome as O;
    use crate::campaign::store::Record;

    const TABLES: &str = "[when]\nover = 'iterations'\n[[metric]]\nname = 'r'\nregex = '(1)'\n\
        [[metric]]\nname = 's'\nregex = '(2)'\n[[curve]]\nname = 'c'\nvariable = 'c'\n";

    /// Injected runs of a double, each with another bit flipped, and with these values of both metrics.
    fn injected(values: &[f64]) -> Vec<Record> {
        let outcomes: Vec<_> =
            (0..values.len()).map(|index| O::ALL[index % O::ALL.len()]).collect();
        let mut all = runs(Kind::Injected, &outcomes);
        for ((record, value), bit) in all.iter_mut().zip(values).zip(0..) {
            record.metrics.insert("r".to_owned(), *value);
            record.metrics.insert("s".to_owned(), *value);
            let bits = 0.01_f64.to_bits();
            let after = (bits ^ 1 << (bit % 64)).to_le_bytes();
            let made = record.injections[0].written.is_some();
            record.injections[0].written = made.then(|| written(&bits.to_le_bytes(), &after));
        }
        all
    }

    fn of(values: &[f64]) -> Vec<Plot> {
        let mut findings = findings(TABLES, injected(values));
        let points = |(number, value): (u64, &f64)| {
            (number, vec![(0, Some(*value)), (1, None), (i64::MAX, Some(1.0))])
        };
        findings.curves.insert("c".to_owned(), (1..).zip(values).map(points).collect());
        all(&findings, &Report::of(&findings))
    }

    fn names(plots: &[Plot]) -> Vec<&str> {
        plots.iter().map(|plot| plot.name.as_str()).collect()
    }

    #[test]
    fn whatever_was_measured_can_be_drawn() {
        let huge = [1e300, -1e300, f64::MAX, f64::MIN, 5e-324, 0.0, 1.0];
        let all: [&[f64]; 6] =
            [&[7.0; 9], &[0.0; 9], &huge, &[f64::NAN; 9], &[f64::INFINITY; 9], &[1.0]];
        for values in all {
            for plot in of(values) {
                let Ok(drawing) = &plot.drawn else { continue };
                let svg = drawing.standalone(&plot.title);
                // In words, a mean may be infinite.
                let marks = svg.split("</desc>").nth(1).unwrap();
                for not_drawn in ["NaN,", "inf,", "\"NaN\"", "-2147483648", "2147483647"] {
                    assert!(!marks.contains(not_drawn), "{} of {values:?}: {not_drawn}", plot.name);
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_drawn_says_why() {
        let missing = |plots: Vec<Plot>| {
            let all = plots.into_iter().filter_map(|plot| Some((plot.name, plot.drawn.err()?)));
            all.collect::<std::collections::BTreeMap<_, _>>()
        };
        let none = missing(of(&[]));
        assert!(none["outcomes"].contains("no trial"), "{none:?}");
        for name in ["map", "bits", "moments", "metric-r", "agreement", "curve-c"] {
            assert!(none.contains_key(name), "{name} of {none:?}");
        }
        let nan = missing(of(&[f64::NAN; 9]));
        assert_eq!(nan["metric-r"], "no injected trial has a finite value");
        assert!(nan.contains_key("agreement") && !nan.contains_key("map-0"), "{nan:?}");
    }

    #[test]
    fn each_trial_is_in_the_map_once() {
        let plots = of(&[1.0; 65]);
        assert!(names(&plots).contains(&"map-0"), "{:?}", names(&plots));
        let map = plots.iter().find(|plot| plot.name == "map-0").unwrap();
        let drawing = map.drawn.as_ref().ok().unwrap();
        // Of 65 trials, the first of every 7 was not injected.
        assert!(drawing.caption.contains("55 trials"), "{}", drawing.caption);
        assert!(drawing.svg.contains("mantissa"), "it is taken for a double");
        let bits = plots.iter().find(|plot| plot.name == "bits-0").unwrap();
        let told = &bits.drawn.as_ref().ok().unwrap().description;
        assert!(
            told.starts_with(
                "Trials: 9 masked, 9 detected, 9 SDC, 9 hang, 9 crash, 10 guest crash"
            ),
            "{told}"
        );
    }

    #[test]
    fn names_are_those_of_files_and_each_is_there_once() {
        let metric = |name: &str| format!("[[metric]]\nname = '{name}'\nregex = '(1)'\n");
        let tables = [metric("a/b"), metric("a b"), metric(&"x".repeat(300))].concat();
        let findings = findings(&tables, injected(&[1.0]));
        let plots = all(&findings, &Report::of(&findings));
        let names = names(&plots);
        assert!(names.contains(&"metric-a-b") && names.contains(&"metric-a-b-2"), "{names:?}");
        assert!(names.iter().all(|name| name.len() < 100), "{names:?}");
    }

    #[test]
    fn a_page_has_its_own_colours_and_a_file_those_of_paper() {
        let plots = of(&[1.0; 9]);
        let drawing = plots[0].drawn.as_ref().ok().unwrap();
        let (page, file) = (drawing.inline("s1-x", "<b>"), drawing.standalone("<b>"));
        assert!(page.contains("fill=\"var(--sdc)\"") && !page.contains("fill=\"#"), "{page}");
        assert!(
            page.contains("aria-labelledby=\"s1-x-t s1-x-d\"") && page.contains("id=\"s1-x-d\"")
        );
        assert!(file.contains("fill=\"#C9361B\"") && !file.contains("var("), "{file}");
        assert!(!page.contains("<b>") && !file.contains("<b>"));
    }
}
