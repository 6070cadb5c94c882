//! The command line as a whole: the program's own options, and its commands.

use std::env;
use std::net::IpAddr;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::diagnose::DiagnoseArgs;
use crate::environment;
use crate::healthcheck::HealthcheckArgs;
use crate::help;
use crate::lab::LabArgs;
use crate::load::LoadArgs;
use crate::manual::{CompletionsArgs, ManArgs};
use crate::probe::ProbeArgs;
use crate::report::ReportArgs;
use crate::serve::{self, ServeArgs};
use crate::version;
use crate::wait::WaitArgs;
use crate::watch::WatchArgs;

/// Answer every UDP datagram from the address it was sent to
#[derive(Debug, Parser)]
#[command(
    version = version::VERSION,
    styles = help::STYLES,
    max_term_width = help::WIDTH,
    after_help = serve::ENDING.short(),
    after_long_help = serve::ENDING.long(),
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// What to do; without it, reflect.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How to reflect, and how to log.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// Commands besides reflecting, which needs no name.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    Load(Box<LoadArgs>),
    Diagnose(DiagnoseArgs),
    Probe(ProbeArgs),
    Wait(WaitArgs),
    Watch(WatchArgs),
    Healthcheck(HealthcheckArgs),
    Lab(LabArgs),
    Report(ReportArgs),
    Man(ManArgs),
    Completions(CompletionsArgs),
}

impl Cli {
    /// Reads the command line and the environment.
    ///
    /// # Errors
    /// Help, the version, or what is wrong, as clap prints it.
    pub fn read() -> Result<Self, clap::Error> {
        // Giving each option its variable takes as long as all else, and mostly none is set.
        let matches = match environment::is_set() {
            true => environment::matches(definition()),
            false => plain().try_get_matches(),
        };
        Self::from_arg_matches(&matches.map_err(hint_at_listen)?)
    }
}

/// A sentence for each environment variable that looks like an option's and is none.
pub fn unknown_variables() -> Vec<String> {
    if !environment::is_set() {
        return Vec::new();
    }
    let variables = env::vars_os().filter_map(|(name, value)| {
        let value = value.to_string_lossy().into_owned();
        Some((name.into_string().ok()?, value))
    });
    environment::unknown(&definition(), variables)
}

/// Where `error` refuses an address as a command, says which option takes it.
fn hint_at_listen(mut error: clap::Error) -> clap::Error {
    let word = error.get(ContextKind::InvalidSubcommand);
    let word = word.map(ContextValue::to_string).unwrap_or_default();
    if word.contains(':') || word.parse::<IpAddr>().is_ok() || word.parse::<u16>().is_ok() {
        let tip = format!("to listen there, type '--listen {word}'");
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

/// The command line with its environment variables.
pub fn definition() -> clap::Command {
    environment::with_variables(plain())
}

/// The command line. A value that is a negative number is refused by its option, instead of being
/// taken for another one.
fn plain() -> clap::Command {
    // A positional argument is none, or -4 would be taken for a target.
    let takes_number = |it: &Arg| it.get_action().takes_values() && !it.is_positional();
    let with_negative = |option: Arg| match takes_number(&option) {
        true => option.allow_negative_numbers(true),
        false => option,
    };
    let program = Cli::command().mut_args(with_negative);
    program.mut_subcommands(|command| command.mut_args(with_negative))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The program's own definition, and those of its commands.
    fn all() -> Vec<clap::Command> {
        let mut program = definition();
        program.build();
        let commands: Vec<_> = program.get_subcommands().cloned().collect();
        [vec![program], commands].concat()
    }

    /// The options of each command, but for those that clap adds.
    fn options() -> Vec<(String, Arg)> {
        let of = |command: clap::Command| {
            let name = command.get_name().to_owned();
            let options: Vec<_> = command.get_arguments().cloned().collect();
            options.into_iter().map(move |it| (name.clone(), it))
        };
        let is_ours = |option: &Arg| option.get_env().is_some();
        let options = all().into_iter().flat_map(of);
        options.filter(|(_, option)| is_ours(option)).collect()
    }

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn a_variable_is_named_like_its_option() {
        let variable = |command: &str, long: &str| {
            let found = options()
                .into_iter()
                .find(|(name, option)| name == command && option.get_long() == Some(long));
            let (_, option) = found.expect("there is such an option");
            option.get_env().map(|env| env.to_str().unwrap().to_owned())
        };
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(
            variable("reflector", "log-format"),
            named("REFLECTOR_LOG_FORMAT")
        );
        assert_eq!(
            variable("load", "max-loss"),
            named("REFLECTOR_LOAD_MAX_LOSS")
        );
        assert!(options().len() > 60, "of all commands");
        for (_, option) in options().iter().filter(|(_, it)| !it.is_positional()) {
            let id = option.get_id().as_str().replace('_', "-");
            assert_eq!(option.get_long(), Some(&*id), "the help states the rule");
        }
    }

    #[test]
    fn a_letter_means_the_same_in_every_command() {
        let table = [
            ('4', &["ipv4"][..]),
            ('6', &["ipv6"]),
            ('b', &["baseline"]),
            ('c', &["cores"]),
            ('d', &["duration"]),
            ('i', &["interval"]),
            ('j', &["json"]),
            ('l', &["listen"]),
            // A number of datagrams, as in ping(8).
            ('n', &["count", "tries"]),
            ('r', &["rate"]),
            ('s', &["size"]),
            ('t', &["timeout"]),
            ('v', &["verbose"]),
            ('w', &["window"]),
        ];
        for (command, option) in options().iter().filter(|(_, it)| !it.is_positional()) {
            let long = option.get_long().expect("every option has a long form");
            let entry = table.iter().find(|(_, longs)| longs.contains(&long));
            let letter = entry.map(|&(letter, _)| letter);
            assert_eq!(option.get_short(), letter, "--{long} of {command}");
        }
    }

    #[test]
    fn every_help_fits_the_terminal() {
        for (command, width) in all()
            .into_iter()
            .flat_map(|it| [(it.clone(), 80), (it, 60)])
        {
            let mut command = command.term_width(width);
            let long = command.render_long_help().to_string();
            for help in [&long, &command.render_help().to_string()] {
                for line in help.lines() {
                    assert!(line.chars().count() <= width, "{line}");
                }
            }
            // An example can be copied, and no paragraph is wrapped by hand, to be wrapped again.
            let ending = |help: &str| help.split_once("Examples:").map(|(_, it)| it.to_owned());
            let shown = ending(&long).unwrap_or_default();
            let mut wide = command.max_term_width(1000).term_width(1000);
            let wide = ending(&wide.render_long_help().to_string());
            for paragraph in wide.unwrap_or_default().lines() {
                let is_example = paragraph.starts_with("    reflector");
                assert!(!is_example || shown.contains(paragraph), "{paragraph}");
                let goes_on = paragraph.trim().starts_with(|it: char| it.is_lowercase());
                assert!(is_example || !goes_on, "{paragraph}");
            }
        }
    }

    #[test]
    fn every_command_has_examples_and_they_are_understood() {
        for command in all() {
            let name = command.get_name().to_owned();
            let help = command.clone().render_help().to_string();
            let lines = help
                .lines()
                .filter_map(|line| line.strip_prefix("    reflector"));
            let examples: Vec<_> = lines.map(|rest| format!("reflector{rest}")).collect();
            assert!(
                name == "help" || examples.len() >= 3,
                "{name}: {examples:?}"
            );
            for example in examples {
                // What follows is the shell's.
                let line = example.split(['|', '>']).next().unwrap();
                let words = shell_words::split(line).expect("a shell reads it");
                let matches = definition().try_get_matches_from(words);
                let matches = matches.unwrap_or_else(|error| panic!("{example}: {error}"));
                let expected = Some(&*name).filter(|&name| name != "reflector");
                assert_eq!(matches.subcommand_name(), expected, "{example}");
            }
        }
    }

    #[test]
    fn options_of_the_reflector_and_commands_do_not_mix() {
        let parse = |line: &str| {
            let words = line.split_whitespace();
            definition().try_get_matches_from(words).is_ok()
        };
        assert!(parse("reflector --cores 2") && parse("reflector load [::1]:7 --cores 2"));
        assert!(!parse("reflector --cores 2 load [::1]:7") && !parse("reflector load"));
    }
}
