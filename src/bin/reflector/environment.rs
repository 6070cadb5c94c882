//! Options by environment variable.
//!
//! A variable is named by a rule, which the help states once: REFLECTOR, the command if any, and
//! the option. One that is empty is as good as none, since a compose file leaves it so.

use std::env;
use std::iter;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Error};

use crate::values::items;

/// Gives every option of `program` and of its commands its variable.
pub fn with_variables(program: Command) -> Command {
    let add = |command: Command, prefix: &str| command.mut_args(|it| with_variable(it, prefix));
    add(program, "REFLECTOR").mut_subcommands(|command| {
        let prefix = format!("REFLECTOR_{}", command.get_name().to_uppercase());
        add(command, &prefix)
    })
}

fn with_variable(option: Arg, prefix: &str) -> Arg {
    let name = format!("{prefix}_{}", option.get_id().as_str().to_uppercase());
    let option = match option.get_action() {
        ArgAction::SetTrue => option.value_parser(parse_flag),
        _ => option,
    };
    match env::var_os(&name) {
        Some(value) if value.is_empty() => option,
        _ => option.env(name).hide_env(true),
    }
}

fn parse_flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("expected 1 or 0".to_owned()),
    }
}

/// The program's own options that are read for every command: how it logs.
const OF_ALL_COMMANDS: [&str; 2] = ["log_format", "verbose"];

/// Takes from `program` the variables that the command line leaves no say: those of a command that
/// is not run, and those of options that cannot be used with one that was typed.
pub fn without_overruled(program: Command) -> Command {
    let typed = without_variables(program.clone()).ignore_errors(true);
    let Ok(typed) = typed.try_get_matches() else {
        return program; // Help is asked for.
    };
    let Some((name, of_command)) = typed.subcommand() else {
        return without_conflicts(program, &typed);
    };
    let is_read = |option: &Arg| OF_ALL_COMMANDS.contains(&option.get_id().as_str());
    program
        .mut_args(|option| match is_read(&option) {
            true => option,
            false => option.env(None::<&str>),
        })
        .mut_subcommand(name, |it| without_conflicts(it, of_command))
}

fn without_conflicts(command: Command, typed: &ArgMatches) -> Command {
    let is_typed = |option: &Arg| {
        let source = typed.value_source(option.get_id().as_str());
        source == Some(ValueSource::CommandLine)
    };
    let conflict = |a: &Arg, b: &Arg| {
        let names = |it, other: &Arg| {
            let conflicts = command.get_arg_conflicts_with(it);
            conflicts.iter().any(|it| it.get_id() == other.get_id())
        };
        names(a, b) || names(b, a)
    };
    let options = || command.get_arguments();
    let is_overruled = |it: &Arg| options().any(|other| is_typed(other) && conflict(it, other));
    let overruled = options().filter(|it| is_overruled(it)).map(Arg::get_id);
    let overruled: Vec<_> = overruled.cloned().collect();
    command.mut_args(|option| match overruled.contains(option.get_id()) {
        true => option.env(None::<&str>),
        false => option,
    })
}

/// Where `error` refuses what `program` was not given on the command line, names the variable that
/// it is from, in the place of the option.
pub fn name_variable(mut error: Error, program: Command) -> Error {
    let typed = without_variables(program.clone()).try_get_matches().err();
    if typed.is_some_and(|typed| said(&typed) == said(&error)) {
        return error;
    }
    let value = match error.kind() {
        ErrorKind::ArgumentConflict => None,
        _ => match error.get(ContextKind::InvalidValue) {
            Some(value) => Some(value.to_string()),
            None => return error,
        },
    };
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        let option = error.get(kind).map(ContextValue::to_string);
        let name = option.and_then(|it| variable(program.clone(), &it, value.as_deref()));
        if let Some(name) = name {
            error.insert(kind, ContextValue::String(name));
        }
    }
    error
}

/// What `error` refuses: option, value, and the option that it conflicts with.
fn said(error: &Error) -> [Option<String>; 3] {
    let kinds = [
        ContextKind::InvalidArg,
        ContextKind::InvalidValue,
        ContextKind::PriorArg,
    ];
    kinds.map(|kind| error.get(kind).map(ContextValue::to_string))
}

/// The variable of an option, written as in errors, that is set, to `value` if that is given, alone
/// or in a list.
fn variable(mut program: Command, option: &str, value: Option<&str>) -> Option<String> {
    program.build();
    let named = iter::once(&program)
        .chain(program.get_subcommands())
        .flat_map(Command::get_arguments)
        .filter(|it| it.to_string() == option);
    let mut names = named.filter_map(|it| it.get_env()?.to_str());
    let holds = |name: &&str| {
        let held = env::var(name).unwrap_or_default();
        match value {
            Some(value) => held == value || items(&held).any(|item| item == value),
            None => !held.is_empty(),
        }
    };
    names.find(holds).map(str::to_owned)
}

fn without_variables(command: Command) -> Command {
    let command = command.mut_args(|option| option.env(None::<&str>));
    command.mut_subcommands(without_variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_takes_the_usual_words() {
        for text in ["1", "true", "Yes", "on"] {
            assert_eq!(parse_flag(text), Ok(true));
        }
        for text in ["0", "false", "no", "OFF"] {
            assert_eq!(parse_flag(text), Ok(false));
        }
        assert!(parse_flag("perhaps").is_err());
    }
}
