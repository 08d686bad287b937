//! Standard output: either text for people or one JSON document. And files that are written whole
//! or not at all.

use crate::inject::Receipt;
use anyhow::Context;
use indicatif::ProgressBar;
use serde::Serialize;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// How often what moves on a terminal does.
const TICK: Duration = Duration::from_millis(200);

/// Prints `text`, which ends its own lines.
pub fn text(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

/// `text` without what a terminal obeys, but for ends of lines.
pub fn visible(text: &str) -> String {
    let letter = |letter: char| match letter {
        '\n' | '\t' => letter.to_string(),
        letter if letter.is_control() => letter.escape_default().to_string(),
        letter => letter.to_string(),
    };
    text.chars().map(letter).collect()
}

/// Prints `value` as one JSON document.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    text(&(document(value)? + "\n"))
}

fn document(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(escaped(&serde_json::to_string_pretty(value)?))
}

/// Says something on standard error that is no part of the output, unless less was asked for.
pub fn note(text: &str) {
    if log::log_enabled!(log::Level::Warn) {
        let _ = writeln!(std::io::stderr(), "{}: {text}", super::name());
    }
}

/// Receipts, as they come: lines, or one JSON document, an array where there may be several.
pub struct Receipts {
    json: bool,
    several: bool,
    /// Where people wait for more of them.
    progress: Option<ProgressBar>,
    count: usize,
}

impl Receipts {
    /// None yet. `timed` ones take their time, which is shown on a terminal.
    pub fn new(json: bool, several: bool, timed: bool) -> Self {
        let shown = timed && log::log_enabled!(log::Level::Warn);
        // On anything but a terminal, it is drawn nowhere.
        let progress = shown.then(ProgressBar::new_spinner);
        let this = Self { json, several, progress, count: 0 };
        this.show_progress();
        this
    }

    fn show_progress(&self) {
        if let Some(progress) = &self.progress {
            progress.enable_steady_tick(TICK);
            progress.set_message(format!("{} injected", self.count));
        }
    }

    /// One more, which is `shown` to people so.
    pub fn add(&mut self, receipt: &Receipt, shown: impl Fn() -> String) -> anyhow::Result<()> {
        let text = match (self.json, self.several) {
            (false, _) => shown() + "\n",
            (true, false) => document(receipt)? + "\n",
            (true, true) if self.count == 0 => format!("[\n{}", document(receipt)?),
            (true, true) => format!(",\n{}", document(receipt)?),
        };
        self.count += 1;
        self.print(&text)?;
        self.show_progress();
        Ok(())
    }

    fn print(&self, own: &str) -> anyhow::Result<()> {
        match &self.progress {
            Some(progress) => progress.suspend(|| text(own)),
            None => text(own),
        }
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.count
    }

    /// There are no more.
    pub fn end(self) -> anyhow::Result<()> {
        if let Some(progress) = &self.progress {
            progress.finish_and_clear();
        }
        if self.json && self.several && self.count > 0 {
            text("\n]\n")?;
        }
        Ok(())
    }
}

/// `json` without what a terminal obeys, or shows in another order than it stands: JSON allows
/// these in strings alone, and there to be escaped.
fn escaped(json: &str) -> String {
    let letter = |letter: char| match letter {
        '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            format!("\\u{:04x}", u32::from(letter))
        }
        _ => letter.to_string(),
    };
    json.chars().map(letter).collect()
}

/// Puts `text` into the file at `path`, in place of one that is there.
pub fn file(path: &Path, text: &str) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    // Where it is a link, what it leads to is replaced.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut part = tempfile::Builder::new()
        .prefix(".vmfi-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .with_context(cannot)?;
    part.write_all(text.as_bytes()).with_context(cannot)?;
    part.persist(&target).map_err(|error| error.error).with_context(cannot)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        let name = "a\u{9b}31m\u{7f}\u{202e}\u{2066}\u{1b}é";
        let json = escaped(&serde_json::to_string(name).unwrap());
        assert_eq!(json, r#""a\u009b31m\u007f\u202e\u2066\u001bé""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), name);
    }
}
