//! Standard output: either text for people or one JSON document. And files that are written whole
//! or not at all.

use anyhow::Context;
use serde::Serialize;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Prints `text`, which ends its own lines.
pub fn text(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

/// Prints `value` as one JSON document.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    text(&(escaped(&serde_json::to_string_pretty(value)?) + "\n"))
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
