//! The options that say what to write: each fault model is one, made from the list of models.

use crate::fault::{MODELS, Model, Spec};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Args, Command, Error, FromArgMatches};

pub use crate::scalar::named as parse_type;

/// The group that all models are in: one of them at most.
pub const GROUP: &str = "fault";
/// What the options stand under.
pub const HEADING: &str = "Fault";

/// The fault model, if one was asked for.
pub struct FaultArgs {
    /// The model.
    pub model: Option<Box<dyn Model>>,
}

impl FaultArgs {
    /// Whether it draws anything.
    pub fn draws(&self) -> bool {
        self.model.as_ref().is_some_and(|model| model.draws())
    }
}

impl Args for FaultArgs {
    fn augment_args(command: Command) -> Command {
        let names = MODELS.iter().map(|spec| spec.name);
        command.args(MODELS.iter().map(|spec| option(spec))).group(ArgGroup::new(GROUP).args(names))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn option(spec: &'static Spec) -> Arg {
    let option = Arg::new(spec.name).long(spec.name).help(spec.about).help_heading(HEADING);
    let Some(argument) = spec.argument else { return option.action(ArgAction::SetTrue) };
    let checked = move |text: &str| (spec.parse)(text).map(|_| text.to_owned());
    option.value_name(argument).value_parser(checked).allow_hyphen_values(true)
}

impl FromArgMatches for FaultArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut args = Self { model: None };
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for spec in MODELS {
            let typed = match spec.argument {
                Some(_) => matches.get_one::<String>(spec.name).map(String::as_str),
                None => matches.get_flag(spec.name).then_some(""),
            };
            if let Some(text) = typed {
                let model = (spec.parse)(text);
                self.model = Some(model.map_err(|why| Error::raw(ErrorKind::InvalidValue, why))?);
            }
        }
        Ok(())
    }
}
