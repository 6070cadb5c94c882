//! Options by environment variable.
//!
//! A variable is named by a rule, which the help states once: REFLECTOR, the command if any, and
//! the option. One that is empty is as good as none, since a compose file leaves it so.

use std::env;
use std::iter;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command, Error};

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

/// Where `error` refuses a value that `program` was not given on the command line, names the
/// variable that it is from, in the place of the option.
pub fn name_variable(mut error: Error, program: Command) -> Error {
    let refused = |error: &Error| {
        let text = |kind| error.get(kind).map(ContextValue::to_string);
        text(ContextKind::InvalidArg).zip(text(ContextKind::InvalidValue))
    };
    let Some((option, value)) = refused(&error) else {
        return error;
    };
    let name = variable(program.clone(), &option, &value);
    let typed = without_variables(program).try_get_matches().err();
    let is_typed = typed.as_ref().and_then(refused) == Some((option, value));
    if let Some(name) = name.filter(|_| !is_typed) {
        error.insert(ContextKind::InvalidArg, ContextValue::String(name));
    }
    error
}

/// The variable of an option, written as in errors, that holds `value`, alone or in a list.
fn variable(mut program: Command, option: &str, value: &str) -> Option<String> {
    program.build();
    let named = iter::once(&program)
        .chain(program.get_subcommands())
        .flat_map(Command::get_arguments)
        .filter(|it| it.to_string() == option);
    let mut names = named.filter_map(|it| it.get_env()?.to_str());
    let holds = |name: &&str| {
        let held = env::var(name).unwrap_or_default();
        held == value || held.split(',').any(|part| part == value)
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
