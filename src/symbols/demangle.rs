//! Names as the program's source has them, from those that compilers of C++ and Rust give the
//! linker.
//!
//! A short name can be made to stand for gigabytes of text, and to be read again and again at each
//! of its levels. So what goes in, what comes out and the levels are bounded, these by the crates.

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};
use std::fmt::{self, Write};

/// Bytes of the longest name that is read or written.
const LONGEST: usize = 4096;

/// Levels of a C++ name. Each can double the time that reading takes; in 30,000 names of Clang none
/// has as many.
const DEEPEST: u32 = 64;

/// A mangled name, made readable.
pub struct Demangled {
    /// As one would say it: without parameters, return type, types of constants or hash.
    pub short: String,
    /// With all of them.
    pub full: String,
}

/// What the linker's name `raw` stands for; `None` where it is not mangled, or too long.
pub fn demangle(raw: &str) -> Option<Demangled> {
    let mangled = ["_Z", "_R", "__Z"].iter().any(|start| raw.starts_with(start));
    if !mangled || raw.len() > LONGEST {
        return None;
    }
    rust(raw).or_else(|| cpp(raw))
}

/// The older names of Rust are those of C++ with a hash: without one it is C++, where more names than
/// those of the source have a meaning.
fn rust(raw: &str) -> Option<Demangled> {
    let name = rustc_demangle::try_demangle(raw).ok()?;
    let short = bounded(|out| write!(out, "{name:#}"))?;
    let full = bounded(|out| write!(out, "{name}"))?;
    (raw.starts_with("_R") || short != full).then_some(Demangled { short, full })
}

fn cpp(raw: &str) -> Option<Demangled> {
    let levels = ParseOptions::default().recursion_limit(DEEPEST);
    let name = Symbol::new_with_options(raw, &levels).ok()?;
    let with = |options| bounded(|out| name.structured_demangle(out, &options));
    let all = DemangleOptions::new();
    let short = with(all.no_params().no_return_type().hide_expression_literal_types())?;
    let full = with(all)?;
    Some(Demangled { short, full })
}

fn bounded(write: impl FnOnce(&mut Bounded) -> fmt::Result) -> Option<String> {
    let mut out = Bounded(String::new());
    write(&mut out).ok()?;
    Some(out.0)
}

/// Text that refuses to grow beyond [`LONGEST`].
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > LONGEST {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anonymous_namespace_is_of_cpp() {
        let name = "app::(anonymous namespace)::hidden";
        reads("_ZN3app12_GLOBAL__N_16hiddenE", name, name);
    }

    #[track_caller]
    fn reads(raw: &str, short: &str, full: &str) {
        let name = demangle(raw).unwrap();
        assert_eq!((name.short.as_str(), name.full.as_str()), (short, full));
    }

    #[test]
    fn cpp_with_and_without_parameters() {
        reads("_ZN3app5valueE", "app::value", "app::value");
        reads("_ZL4twin", "twin", "twin");
        reads("_ZN3app3runEid", "app::run", "app::run(int, double)");
        reads("_Z5twiceIiET_S0_", "twice<int>", "int twice<int>(int)");
        reads(
            "_ZN3app5tableILj4EE4dataE",
            "app::table<4>::data",
            "app::table<(unsigned int)4>::data",
        );
        let hidden = "app::(anonymous namespace)::hidden";
        reads("_ZN3app12_GLOBAL__N_16hiddenE", hidden, hidden);
        // Which `run` the variable belongs to is part of its name.
        let of_function = "app::run(int, double)::count";
        reads("_ZZN3app3runEidE5count", of_function, of_function);
    }

    #[test]
    fn rust_with_and_without_hash() {
        let legacy = "_ZN3app5VALUE17h0123456789abcdefE";
        reads(legacy, "app::VALUE", "app::VALUE::h0123456789abcdef");
        reads("_RNvCs1234_3app5VALUE", "app::VALUE", "app[3c1c0]::VALUE");
    }

    #[test]
    fn leaves_alone_what_is_not_mangled() {
        for raw in ["", "main", "_Z", "_R", "_Zebra", "_ZN3app", "RNvC3app5VALUE", "ZN3appE"] {
            assert!(demangle(raw).is_none(), "{raw}");
        }
    }

    /// Each parameter is a template of two of the one before it.
    #[test]
    fn does_not_grow_without_bounds() {
        let twice = |before: u8| format!("1BIS{0}_S{0}_E", before as char);
        let doubling = |levels: usize| {
            let each: String =
                b"02468ACEGIKMOQSUWY".iter().take(levels).copied().map(twice).collect();
            format!("_Z1f1AIiE{each}")
        };
        assert!(demangle(&doubling(3)).unwrap().full.contains("B<B<A<int>, A<int> >"));
        assert!(demangle(&doubling(18)).is_none());
        assert!(demangle(&format!("_Z1f{}i", "P".repeat(LONGEST - 6))).is_none());
        assert!(demangle(&format!("_R{}", "B".repeat(LONGEST - 2))).is_none());
        let long = |length| format!("_Z{length}{}", "a".repeat(length));
        assert!(demangle(&long(LONGEST - 6)).is_some());
        assert!(demangle(&long(LONGEST)).is_none());
    }
}
