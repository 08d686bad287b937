//! `vmfi help targets`: how a place is named, as docs/targets.md has it.

use super::output;
use clap::Args;

const TEXT: &str = include_str!("../../docs/targets.md");

/// How a place is named: symbols, typed paths, addresses, regions
#[derive(Args)]
#[command(long_about = TEXT, override_help = TEXT)]
pub struct TargetsArgs {}

pub fn run() -> anyhow::Result<()> {
    output::text(TEXT)
}
