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
use std::fmt::Write;

/// No more targets have plots of their own.
const MOST_TARGETS: usize = 6;

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
    all
}

impl Plot {
    fn new(name: &str, title: impl AsRef<str>, drawn: Result<Drawing, String>) -> Self {
        let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        Self { name: name.chars().map(letter).collect(), title: line(title.as_ref()), drawn }
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
