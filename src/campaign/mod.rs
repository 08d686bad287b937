//! Thousands of trials, by a plan.
//!
//! - [`plan`]: what a campaign is to do, read from a file and checked.
//! - [`expand`]: its trials, each with its seed and what is drawn for it.
//! - [`base`]: where all runs begin; [`attempt`]: one run; [`ran`]: what was seen of it;
//!   [`curve`]: of each of its iterations.
//! - [`golden`]: what the program does without faults; [`outcome`]: what a run came to, judged by that.
//! - [`session`]: the campaign under way; [`store`]: where all of it is kept; [`merge`]: several stores
//!   put together.
//! - [`summary`]: a plan in words.

pub mod attempt;
pub mod base;
mod check;
pub mod curve;
pub mod expand;
mod fault;
pub mod golden;
pub mod merge;
mod mistake;
pub mod outcome;
pub mod plan;
pub mod ran;
#[cfg(test)]
pub mod samples;
pub mod session;
pub mod store;
pub mod summary;
mod tables;
mod values;
mod variable;
mod watch;

pub use expand::{Draw, Kind, Shard, Trial};
pub use mistake::PlanError;
pub use plan::Plan;

/// The plan that `vmfi campaign init` writes.
pub const TEMPLATE: &str = include_str!("template.toml");

#[cfg(test)]
mod tests {
    use super::check::Keys;
    use super::*;
    use crate::fault::MODELS;
    use std::collections::BTreeSet;
    use std::path::Path;

    const DOCS: &str = include_str!("../../docs/plan.md");
    const TABLES: [&str; 11] = [
        "guest",
        "program",
        "target",
        "fault",
        "when",
        "limits",
        "detected",
        "output",
        "metric",
        "curve",
        "published",
    ];

    /// The keys that `text` explains, each behind its table: lines such as `key = ...`, with or
    /// without `#`, below headings such as `[table]`.
    fn explained(text: &str) -> BTreeSet<String> {
        let mut table = String::new();
        let mut keys = BTreeSet::new();
        for line in text.lines() {
            let bare = line.trim_start_matches(['#', ' ']);
            if let Some((name, _)) =
                bare.trim_start_matches('[').split_once(']').filter(|_| bare.starts_with('['))
            {
                name.clone_into(&mut table);
            } else if let Some((key, _)) = bare.split_once(" = ").filter(|(key, _)| is_key(key)) {
                keys.insert(format!("{table}.{key}"));
            }
        }
        keys
    }

    fn is_key(word: &str) -> bool {
        word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-')
    }

    /// The keys that serde knows, likewise.
    fn known(table: &str) -> Vec<String> {
        let head = match table {
            "" => String::new(),
            "target" | "fault" | "metric" | "curve" | "published" => format!("[[{table}]]\n"),
            _ => format!("[{table}]\n"),
        };
        let Err(error) = toml::from_str::<Keys>(&format!("{head}no-such-key = 1")) else {
            panic!("{table} takes any key")
        };
        mistake::known(error.message())
    }

    #[test]
    fn every_key_is_explained_and_in_the_template() {
        let (tables, top): (Vec<_>, Vec<_>) =
            known("").into_iter().partition(|key| TABLES.contains(&key.as_str()));
        assert_eq!(tables, TABLES);
        let mut all: BTreeSet<_> = top.iter().map(|key| format!(".{key}")).collect();
        for table in &tables {
            all.extend(known(table).iter().map(|key| format!("{table}.{key}")));
        }
        // Of the models one is enough; `vmfi help faults` has them all.
        all.retain(|key| !MODELS.iter().any(|spec| *key == format!("fault.{}", spec.name)));
        all.insert("fault.flip".to_owned());
        assert_eq!(explained(DOCS), all);
        assert_eq!(explained(TEMPLATE), all);
        for spec in MODELS {
            assert!(DOCS.contains(&format!("`{}`", spec.name)), "{}", spec.name);
        }
    }

    #[test]
    fn the_template_is_a_plan() {
        let plan = Plan::parse(TEMPLATE.to_owned(), Path::new("folder/mine.toml")).unwrap();
        assert_eq!((plan.name.as_str(), plan.trials, plan.null), ("mine", 200, 60));
        assert_eq!(plan.beside(&plan.program.command[0]), Path::new("folder/./hpccg"));
        assert!(plan.output.exact);
    }

    /// What is commented out is good too, unless it is there instead of something else.
    #[test]
    fn every_line_of_the_template_serves() {
        let lines: Vec<_> = TEMPLATE.lines().collect();
        let commented = |line: &str| line.starts_with('#') && !line.starts_with("# ");
        let all = lines.iter().enumerate().filter(|(_, line)| commented(line) && line.len() > 1);
        for (number, line) in all {
            let mut with = lines.clone();
            with[number] = line.trim_start_matches('#');
            if let Err(error) = Plan::parse(with.join("\n"), Path::new("mine.toml")) {
                let instead = ["leave out", "give "];
                let error = error.to_string();
                assert!(instead.iter().any(|part| error.contains(part)), "{line}: {error}");
            }
        }
    }
}
