//! `vmfi help targets` and other texts: the pages of docs/ that are needed while typing.

use super::output;
use crate::fault::{MODELS, Spec};
use clap::Subcommand;
use std::sync::LazyLock;

/// What `vmfi help` has a text about.
#[derive(Subcommand)]
pub enum Topic {
    /// How a place is named: symbols, typed paths, addresses, regions
    #[command(long_about = TARGETS, override_help = TARGETS)]
    Targets,
    /// What is written: every fault model, with an example
    #[command(long_about = FAULTS.as_str(), override_help = FAULTS.as_str())]
    Faults,
    /// When it is written, and what comes after: schedules, triggers, stuck-at faults, fate
    #[command(long_about = WHEN, override_help = WHEN)]
    When,
    /// What receipts and logs tell, and how logs are replayed and undone
    #[command(long_about = RECORD, override_help = RECORD)]
    Record,
    /// What a campaign's plan may say: every key, with an example
    #[command(long_about = PLAN, override_help = PLAN)]
    Plan,
    /// What a campaign does, from the plan to the report
    #[command(long_about = CAMPAIGNS, override_help = CAMPAIGNS)]
    Campaigns,
    /// What reports have for other programs: every column and key
    #[command(long_about = DATA, override_help = DATA)]
    Data,
}

const TARGETS: &str = include_str!("../../docs/targets.md");
const WHEN: &str = include_str!("../../docs/when.md");
const RECORD: &str = include_str!("../../docs/record.md");
const PLAN: &str = include_str!("../../docs/plan.md");
const CAMPAIGNS: &str = include_str!("../../docs/campaign.md");
const DATA: &str = include_str!("../../docs/data.md");
/// docs/faults.md is made from it.
static FAULTS: LazyLock<String> =
    LazyLock::new(|| include_str!("faults.md").replace(MODELS_HERE, &models()));
/// What stands for the models in it.
const MODELS_HERE: &str = "{models}\n";

pub fn run(topic: &Topic) -> anyhow::Result<()> {
    output::text(match topic {
        Topic::Targets => TARGETS,
        Topic::Faults => &FAULTS,
        Topic::When => WHEN,
        Topic::Record => RECORD,
        Topic::Plan => PLAN,
        Topic::Campaigns => CAMPAIGNS,
        Topic::Data => DATA,
    })
}

/// The page of docs/ that has the text called `name`: `campaign` is a command already.
pub fn page(name: &str) -> &str {
    if name == "campaigns" { "campaign" } else { name }
}

fn models() -> String {
    MODELS.iter().map(|spec| model(spec)).collect::<Vec<_>>().join("\n")
}

fn model(Spec { name, argument, about, example, .. }: &Spec) -> String {
    let argument = argument.map(|argument| format!(" {argument}")).unwrap_or_default();
    format!("    --{name}{argument}\n        {about}\n        $ vmfi inject {example}\n")
}
