//! A profile: the layouts that vmfi asks for, as TOML that people can read and write.
//!
//! One table for each structure, one key for each member:
//!
//! ```toml
//! kernel = "Linux version 6.1.0 ..."    # whose it is; may be left out
//!
//! [struct.task_struct]
//! comm = { offset = 2976, size = 16 }
//!
//! [struct.file]
//! "f_path.dentry" = { offset = 24, size = 8 }
//!
//! [struct.page]
//! "" = { offset = 0, size = 64 }        # the structure itself
//!
//! [enum.pageflags]
//! PG_uptodate = 3
//! ```

use super::{Member, TypeSource, TypesError, WHOLE};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Layouts by structure and path of members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The banner of the kernel that they are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    #[serde(rename = "struct")]
    structures: BTreeMap<String, BTreeMap<String, Member>>,
    #[serde(rename = "enum", default, skip_serializing_if = "BTreeMap::is_empty")]
    enumerations: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Profile {
    /// Reads a profile's text.
    pub fn parse(text: &str) -> Result<Self, TypesError> {
        let damaged = |error: toml::de::Error| {
            let before = |at: usize| text.bytes().take(at).filter(|&byte| byte == b'\n').count();
            let line = error.span().map(|span| 1 + before(span.start));
            let line = line.map(|line| format!(" in line {line}")).unwrap_or_default();
            TypesError::Damaged("profile", format!("{}{line}", error.message()))
        };
        toml::from_str(text).map_err(damaged)
    }

    /// The text that [`Profile::parse`] reads.
    pub fn text(&self) -> String {
        let kernel = self.kernel.as_ref().map(|kernel| format!("kernel = {kernel:?}\n"));
        let tables = self.structures.iter().map(|(structure, members)| {
            let lines = members.iter().map(|(path, Member { offset, size })| {
                let bare = path != WHOLE && !path.contains('.');
                let key = if bare { path.clone() } else { format!("{path:?}") };
                format!("{key} = {{ offset = {offset}, size = {size} }}\n")
            });
            format!("\n[struct.{structure}]\n{}", lines.collect::<String>())
        });
        let enumerations = self.enumerations.iter().map(|(enumeration, values)| {
            let lines = values.iter().map(|(name, value)| format!("{name} = {value}\n"));
            format!("\n[enum.{enumeration}]\n{}", lines.collect::<String>())
        });
        kernel.into_iter().chain(tables).chain(enumerations).collect()
    }
}

impl TypeSource for Profile {
    fn member(&self, structure: &str, path: &str) -> Result<Member, TypesError> {
        let members = self.structures.get(structure);
        let members = members.ok_or_else(|| TypesError::NoStructure(structure.to_owned()))?;
        members.get(path).copied().ok_or_else(|| TypesError::NoMember {
            structure: structure.to_owned(),
            member: path.to_owned(),
        })
    }

    fn enumerator(&self, enumeration: &str, name: &str) -> Result<u64, TypesError> {
        let values = self.enumerations.get(enumeration);
        let values = values.ok_or_else(|| TypesError::NoStructure(enumeration.to_owned()))?;
        values.get(name).copied().ok_or_else(|| TypesError::NoMember {
            structure: enumeration.to_owned(),
            member: name.to_owned(),
        })
    }

    fn kernel(&self) -> Option<&str> {
        self.kernel.as_deref()
    }
}

/// Answers from another source, and keeps each answer: a profile of what was asked for.
pub struct Recorder<'t> {
    source: &'t dyn TypeSource,
    kept: RefCell<Profile>,
}

impl<'t> Recorder<'t> {
    /// Records what is asked of `source`.
    pub fn new(source: &'t dyn TypeSource) -> Self {
        Self { source, kept: RefCell::default() }
    }

    /// What was answered until now.
    pub fn profile(&self) -> Profile {
        self.kept.borrow().clone()
    }
}

impl TypeSource for Recorder<'_> {
    fn member(&self, structure: &str, path: &str) -> Result<Member, TypesError> {
        let member = self.source.member(structure, path)?;
        let structures = &mut self.kept.borrow_mut().structures;
        structures.entry(structure.to_owned()).or_default().insert(path.to_owned(), member);
        Ok(member)
    }

    fn enumerator(&self, enumeration: &str, name: &str) -> Result<u64, TypesError> {
        let value = self.source.enumerator(enumeration, name)?;
        let enumerations = &mut self.kept.borrow_mut().enumerations;
        enumerations.entry(enumeration.to_owned()).or_default().insert(name.to_owned(), value);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "kernel = \"Linux version 2.6.33.7 (\\\"gcc\\\")\"\n\
                        \n[struct.file]\n\"f_path.dentry\" = { offset = 24, size = 8 }\n\
                        \n[struct.task_struct]\ncomm = { offset = 1144, size = 16 }\n\
                        \n[enum.pageflags]\nPG_locked = 0\nPG_uptodate = 3\n";

    #[test]
    fn text_round_trips() {
        let profile = Profile::parse(TEXT).unwrap();
        assert_eq!(profile.kernel.as_deref(), Some("Linux version 2.6.33.7 (\"gcc\")"));
        let member = profile.member("file", "f_path.dentry").unwrap();
        assert_eq!(member, Member { offset: 24, size: 8 });
        assert_eq!(profile.enumerator("pageflags", "PG_uptodate").unwrap(), 3);
        assert!(profile.enumerator("pageflags", "PG_head").is_err());
        assert_eq!(profile.text(), TEXT);
    }

    #[test]
    fn says_where_it_is_damaged() {
        let parse = |text| Profile::parse(text).unwrap_err().to_string();
        assert!(parse("[struct.task_struct]\ncomm = 5").contains("line 2"));
        assert!(
            parse("[struct.task_struct]\ncomm = { offset = 1, size = 2, bits = 3 }")
                .contains("bits")
        );
        assert!(parse("[struct.task_struct]\ncomm = { offset = -1, size = 2 }").contains("line 2"));
        assert!(parse("ELF").contains("line 1"));
    }

    #[test]
    fn a_recorder_keeps_what_is_answered() {
        let whole = Profile::parse(TEXT).unwrap();
        let recorder = Recorder::new(&whole);
        assert!(recorder.member("task_struct", "__state").is_err());
        assert!(recorder.member("mm_struct", "mmap").is_err());
        recorder.member("task_struct", "comm").unwrap();
        recorder.enumerator("pageflags", "PG_uptodate").unwrap();
        let kept = recorder.profile();
        assert!(kept.member("task_struct", "comm").is_ok());
        assert!(kept.member("file", "f_path.dentry").is_err());
        assert_eq!(kept.enumerator("pageflags", "PG_uptodate").unwrap(), 3);
        assert!(kept.enumerator("pageflags", "PG_locked").is_err());
    }
}
