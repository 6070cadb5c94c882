//! Options by environment variable.
//!
//! A variable is named by a rule, which the help states once: REFLECTOR, the command if any, and
//! the option. One that is empty is as good as none, since a compose file leaves it so.

use std::env;
use std::iter;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Error};

use reflector_lab::INSIDE;
use strsim::damerau_levenshtein;

use crate::values::items;

/// What every variable of an option begins with.
const PREFIX: &str = "REFLECTOR_";

/// Whether there may be a variable of an option.
pub fn is_set() -> bool {
    env::vars_os().any(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
}

/// Reads the command line and the variables by `program`, which [`with_variables`] has made.
///
/// # Errors
/// Help, the version, or what is wrong, by the name of the variable where it is from one.
pub fn matches(program: Command) -> Result<ArgMatches, Error> {
    let program = without_overruled(program);
    let matches = program.clone().try_get_matches();
    matches.map_err(|error| name_variable(error, program))
}

/// Gives every option of `program` and of its commands its variable.
pub fn with_variables(program: Command) -> Command {
    let add = |command: Command, prefix: &str| command.mut_args(|it| with_variable(it, prefix));
    add(program, "REFLECTOR").mut_subcommands(|command| {
        let prefix = prefix_of(&command);
        add(command, &prefix)
    })
}

fn prefix_of(command: &Command) -> String {
    format!("REFLECTOR_{}", command.get_name().to_uppercase())
}

fn name_of(option: &Arg, prefix: &str) -> String {
    format!("{prefix}_{}", option.get_id().as_str().to_uppercase())
}

fn with_variable(option: Arg, prefix: &str) -> Arg {
    let name = name_of(&option, prefix);
    let option = match option.get_action() {
        ArgAction::SetTrue => option.value_parser(parse_flag),
        _ => option,
    };
    match env::var_os(&name) {
        Some(value) if value.is_empty() || is_link(&name, &value.to_string_lossy()) => option,
        _ => option.env(name).hide_env(true),
    }
}

/// A sentence for each of `variables`, names with values, that looks like one of `program` and sets
/// nothing.
pub fn unknown(
    program: &Command,
    variables: impl Iterator<Item = (String, String)>,
) -> Vec<String> {
    let of = |command: &Command, prefix: &str| {
        let options = command.get_arguments();
        options.map(|it| name_of(it, prefix)).collect::<Vec<_>>()
    };
    let of_commands = program.get_subcommands();
    let of_commands = of_commands.flat_map(|command| of(command, &prefix_of(command)));
    let known: Vec<_> = of(program, "REFLECTOR")
        .into_iter()
        .chain(of_commands)
        .collect();
    let is_ours = |name: &str| name.starts_with(PREFIX) && name != INSIDE;
    let unknown = variables.filter(|(name, value)| {
        is_ours(name) && !is_of_a_service(name, value) && !known.contains(name)
    });
    let sentence = |(name, _): (String, String)| {
        let distance = |other: &&String| damerau_levenshtein(&name, other);
        let nearest = known.iter().min_by_key(distance);
        match nearest.filter(|other| distance(other) <= DISTANCE_MAX) {
            Some(nearest) => format!("{name} sets no option; is {nearest} meant?"),
            None => format!("{name} sets no option"),
        }
    };
    unknown.map(sentence).collect()
}

/// Letters by which a name may be wrong and still be taken for another.
const DISTANCE_MAX: usize = 3;

/// Whether Kubernetes, or a link of Docker, sets the variable for a service whose name begins with
/// "reflector".
fn is_of_a_service(name: &str, value: &str) -> bool {
    let of_port = |name: &str| match name.rsplit_once("_PORT_") {
        // Such as PORT_9007_UDP_ADDR.
        Some((_, rest)) => rest.starts_with(|it: char| it.is_ascii_digit()),
        None => false,
    };
    let of_service = |name: &str| {
        name.ends_with("_SERVICE_HOST")
            || name.ends_with("_SERVICE_PORT")
            || name.contains("_SERVICE_PORT_")
    };
    let of_docker =
        |name: &str| name.contains("_ENV_") || (name.ends_with("_NAME") && value.starts_with('/'));
    is_link(name, value) || of_port(name) || of_service(name) || of_docker(name)
}

/// Whether the variable is the address of such a service, which has the name of an option where the
/// service is called like one: REFLECTOR_LAB_PORT=udp://10.0.0.1:9007.
fn is_link(name: &str, value: &str) -> bool {
    name.ends_with("_PORT") && value.contains("://")
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
fn without_overruled(program: Command) -> Command {
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
fn name_variable(mut error: Error, program: Command) -> Error {
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
    fn a_variable_that_sets_nothing_is_told_with_the_nearest_that_does() {
        let program = Command::new("reflector")
            .arg(Arg::new("cores"))
            .subcommand(Command::new("load").arg(Arg::new("max_loss")));
        let unknown = |name: &str, value: &str| {
            let variable = (name.to_owned(), value.to_owned());
            unknown(&program, [variable].into_iter())
        };
        for (name, said) in [
            (
                "REFLECTOR_COERS",
                "REFLECTOR_COERS sets no option; is REFLECTOR_CORES meant?",
            ),
            (
                "REFLECTOR_LOAD_MAXLOSS",
                "REFLECTOR_LOAD_MAXLOSS sets no option; is REFLECTOR_LOAD_MAX_LOSS meant?",
            ),
            (
                "REFLECTOR_SOMETHING_ELSE",
                "REFLECTOR_SOMETHING_ELSE sets no option",
            ),
        ] {
            assert_eq!(unknown(name, "1"), [said]);
        }
        for name in [
            "REFLECTOR_CORES",
            "REFLECTOR_LOAD_MAX_LOSS",
            INSIDE,
            "REFLECTORS",
            "PATH",
        ] {
            assert!(unknown(name, "1").is_empty(), "{name}");
        }
        // Of services called "reflector", "reflector-load" and "reflector-deny".
        for (name, value) in [
            ("REFLECTOR_SERVICE_HOST", "10.0.0.1"),
            ("REFLECTOR_SERVICE_PORT", "9007"),
            ("REFLECTOR_SERVICE_PORT_ECHO", "9007"),
            ("REFLECTOR_PORT", "udp://10.0.0.1:9007"),
            ("REFLECTOR_PORT_9007_UDP", "udp://10.0.0.1:9007"),
            ("REFLECTOR_PORT_9007_UDP_ADDR", "10.0.0.1"),
            ("REFLECTOR_LOAD_SERVICE_HOST", "10.0.0.1"),
            ("REFLECTOR_LOAD_SERVICE_PORT", "9007"),
            ("REFLECTOR_LOAD_PORT", "tcp://10.0.0.1:9007"),
            ("REFLECTOR_LOAD_PORT_9007_TCP_PROTO", "tcp"),
            ("REFLECTOR_DENY_PORT", "udp://10.0.0.1:9007"),
            ("REFLECTOR_NAME", "/web/reflector"),
            ("REFLECTOR_ENV_PATH", "/bin"),
        ] {
            assert!(unknown(name, value).is_empty(), "{name}");
        }
        assert_eq!(unknown("REFLECTOR_PORT", "9007").len(), 1);
    }

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
