//! Standard output: either text for people or one JSON document.

use anyhow::Context;
use serde::Serialize;
use std::io::Write;

/// Prints `text`, which ends its own lines.
pub fn text(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

/// Prints `value` as one JSON document.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    text(&(serde_json::to_string_pretty(value)? + "\n"))
}
