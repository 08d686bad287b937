//! `vmfi.toml`: every option that is an environment variable too, under its long name.
//!
//! What the file says becomes the default of the option, and clap does the rest: the command line
//! beats the environment beats the file, and the values go through the options' own parsers. So
//! there is no second list of options. Relative paths start at the file's own folder.

use super::error::UsageError;
use super::exit::complaint;
use clap::{Arg, Command, ValueHint};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use toml::{Spanned, Value};

const NAME: &str = "vmfi.toml";
/// Far more than all options need.
const LIMIT: u64 = 1 << 20;

/// The file to read: the one given, else that of the working directory, else the user's.
pub fn find(given: Option<&Path>) -> Option<PathBuf> {
    let user = user_folder().map(|folder| folder.join("vmfi").join(NAME));
    let found = || [NAME.into()].into_iter().chain(user).find(|path: &PathBuf| path.exists());
    given.map(Path::to_owned).or_else(found)
}

/// Where the XDG base directory specification has it; a relative path there counts as none.
fn user_folder() -> Option<PathBuf> {
    let set = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = || std::env::home_dir().map(|home| home.join(".config"));
    set.filter(|folder| folder.is_absolute()).or_else(home)
}

/// `command` with what the file at `path` says as the defaults of its options. The file may have
/// every option of `known`, also those that `command` lacks.
pub fn with_file(command: Command, known: &Command, path: &Path) -> Result<Command, UsageError> {
    let text = read(path)?;
    let wrong = |at: usize, what: &str| {
        let line = 1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count();
        UsageError(format!("{}, line {line}: {what}", path.display()))
    };
    let table: BTreeMap<String, Spanned<Value>> = toml::from_str(&text)
        .map_err(|error| wrong(error.span().unwrap_or_default().start, error.message()))?;
    table.into_iter().try_fold(command, |command, (name, value)| {
        let default = option(known, &name)
            .and_then(|option| default(option, &name, value.get_ref(), path))
            .map_err(|what| wrong(value.span().start, &what))?;
        Ok(each_option(command, &|option| match key(&option) {
            Some(key) if key == name => option.default_value(default.clone()),
            _ => option,
        }))
    })
}

/// `command`, for which a variable that is set but empty is not set.
pub fn without_empty_variables(command: Command) -> Command {
    each_option(command, &|option| {
        let value = option.get_env().and_then(std::env::var_os);
        if value.is_some_and(|value| value.is_empty()) { option.env(None) } else { option }
    })
}

fn each_option(command: Command, change: &impl Fn(Arg) -> Arg) -> Command {
    command.mut_args(change).mut_subcommands(|command| each_option(command, change))
}

/// The options that may stand in the file.
fn keys(command: &Command) -> BTreeMap<&str, &Arg> {
    let own = command.get_arguments().filter_map(|option| Some((key(option)?, option)));
    own.chain(command.get_subcommands().flat_map(keys)).collect()
}

/// The option's name in the file, where it may stand there.
fn key(option: &Arg) -> Option<&str> {
    option.get_long().filter(|name| option.get_env().is_some() && *name != "config")
}

fn option<'a>(command: &'a Command, name: &str) -> Result<&'a Arg, String> {
    let keys = keys(command);
    let known = || keys.keys().copied().collect::<Vec<_>>().join(", ");
    let option = keys.get(name).copied();
    option.ok_or_else(|| format!("unknown key '{name}'; known: {}", known()))
}

/// What `option` is to be where it is not given.
fn default(option: &Arg, name: &str, value: &Value, file: &Path) -> Result<OsString, String> {
    let text = text(option, name, value)?;
    check(option, name, &text)?;
    // What may be a path or a number, as a process id, is no path when it is a number.
    Ok(match (option.get_value_hint(), file.parent(), value) {
        (ValueHint::AnyPath, Some(folder), Value::String(_)) => folder.join(text).into(),
        _ => text.into(),
    })
}

/// The value as people type it.
fn text(option: &Arg, name: &str, value: &Value) -> Result<String, String> {
    match (option.get_action().takes_values(), value) {
        (true, Value::String(text)) => Ok(text.clone()),
        (true, Value::Integer(number)) => Ok(number.to_string()),
        (true, _) => Err(format!("'{name}' must be text in quotes, or a whole number")),
        (false, Value::Boolean(flag)) => Ok(flag.to_string()),
        (false, _) => Err(format!("'{name}' must be true or false")),
    }
}

/// Has the option's own parser look at `text`: later nobody could tell the line any more.
fn check(option: &Arg, name: &str, text: &str) -> Result<(), String> {
    let parser = option.get_value_parser().clone();
    let alone = Arg::new("value").long(name.to_owned()).value_parser(parser);
    let command = Command::new(NAME).no_binary_name(true).arg(alone);
    let parsed = command.try_get_matches_from([format!("--{name}={text}")]);
    parsed.map(drop).map_err(|error| complaint(&error))
}

fn read(path: &Path) -> Result<String, UsageError> {
    let shown = path.display();
    let unreadable =
        |error| UsageError(format!("cannot read {shown}: {error}; give --config another"));
    let known = std::fs::metadata(path).map_err(unreadable)?;
    // Reading anything else could block, or never end.
    if !known.is_file() || known.len() > LIMIT {
        return Err(UsageError(format!("{shown} is not a file of options; give --config another")));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ArgAction;

    fn command() -> Command {
        let option = |name: &'static str| Arg::new(name).long(name).env("VMFI_NOT_SET");
        let path = option("path").value_parser(clap::value_parser!(PathBuf)).global(true);
        let flag = option("flag").action(ArgAction::SetTrue);
        let below = Command::new("below").arg(option("number")).arg(Arg::new("own").long("own"));
        Command::new("vmfi").arg(path).arg(flag).arg(option("config")).subcommand(below)
    }

    fn with(text: &str) -> Result<Command, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(NAME);
        std::fs::write(&file, text).unwrap();
        let own = |error: UsageError| error.0.replace(folder.path().to_str().unwrap(), "");
        with_file(command(), &command(), &file).map_err(own)
    }

    #[test]
    fn the_file_tells_the_defaults() {
        let command = with("path = '/ram'\nflag = true\nnumber = 0x10").unwrap();
        let below = ["vmfi", "below", "--path", "/other"];
        let given = command.clone().get_matches_from(below);
        let (_, below) = given.subcommand().unwrap();
        assert_eq!(given.get_one::<PathBuf>("path").unwrap(), Path::new("/other"));
        assert_eq!(below.get_one::<String>("number").unwrap(), "16");
        let given = command.get_matches_from(["vmfi"]);
        assert_eq!(given.get_one::<PathBuf>("path").unwrap(), Path::new("/ram"));
        assert!(given.get_flag("flag"));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let refused = |text: &str| with(text).unwrap_err();
        assert_eq!(
            refused("flag = true\n\nown = 1"),
            "/vmfi.toml, line 3: unknown key 'own'; known: flag, number, path"
        );
        assert!(refused("config = 'x'").contains("unknown key 'config'"));
        assert!(refused("[flag]").contains("line 1: 'flag' must be true or false"));
        assert!(refused("number = 1.5").contains("line 1: 'number' must be text"));
        assert!(refused("path = ''").contains("line 1: a value is required for '--path"));
        assert!(refused("flag = true\nflag = true").contains("line 2: duplicate key"));
        assert!(refused("flag").contains("line 1: "));
    }
}
