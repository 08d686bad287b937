//! `vmfi cache`: what is remembered of kernels and RAM sources, so that a later command need not
//! find it out anew, and where. `vmfi cache --clear` forgets it.
//!
//! Whatever is remembered is proved against the guest's memory before it counts, so there is never
//! a need to clear it.

use super::output;
use crate::cache::{Cache, Shelf};
use anyhow::Context;
use clap::Args;
use serde_json::json;

/// Show what is remembered of guests, or forget it
#[derive(Args)]
pub struct CacheArgs {
    /// Forget all of it
    #[arg(long)]
    clear: bool,
}

pub fn run(args: &CacheArgs, json: bool) -> anyhow::Result<()> {
    let cache = Cache::of_user();
    let folder = cache.folder().map(|folder| folder.display().to_string());
    let shown = folder.as_deref().unwrap_or("nowhere, as there is no home folder");
    if args.clear {
        let cleared = cache.clear().with_context(|| format!("cannot clear {shown}"))?;
        return if json {
            output::json(&json!({ "folder": folder, "cleared": cleared }))
        } else {
            output::text(&format!("records cleared: {cleared}, in {shown}\n"))
        };
    }
    let [kernels, sources] = [Shelf::Kernels, Shelf::Sources].map(|shelf| cache.count(shelf));
    if json {
        output::json(&json!({ "folder": folder, "kernels": kernels, "sources": sources }))
    } else {
        output::text(&format!("kernels: {kernels}, RAM sources: {sources}, in {shown}\n"))
    }
}
