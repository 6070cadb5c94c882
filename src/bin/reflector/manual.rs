//! `reflector man` and `reflector completions`: what packagers install beside the program, made of
//! the definition of its command line.

use std::io::{self, Write};

use clap::Args;
use clap::builder::{PossibleValue, TypedValueParser};
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::output;

use crate::help::Ending;
use crate::values::one_of;

/// What the help of `man` ends with.
const MAN_ENDING: Ending = Ending {
    examples: &[
        ("Read it", "reflector man | man -l -"),
        ("Read that of a command", "reflector man load | man -l -"),
        (
            "Install it",
            "reflector man > /usr/local/share/man/man1/reflector.1",
        ),
    ],
    sections: &[],
};

/// What the help of `completions` ends with.
const COMPLETIONS_ENDING: Ending = Ending {
    examples: &[
        (
            "Install them for bash, in /etc/bash_completion.d",
            "reflector completions bash > reflector",
        ),
        (
            "Install them for fish, in ~/.config/fish/completions",
            "reflector completions fish > reflector.fish",
        ),
        (
            "Install them for zsh, in a directory of $fpath",
            "reflector completions zsh > _reflector",
        ),
    ],
    sections: &[],
};

/// The commands that have pages of their own.
const COMMANDS: [&str; 10] = [
    "load",
    "diagnose",
    "probe",
    "wait",
    "watch",
    "lab",
    "report",
    "healthcheck",
    "man",
    "completions",
];

/// Print the manual page, in the form that man(1) reads
#[derive(Args, Clone, Debug)]
#[command(after_help = MAN_ENDING.short(), after_long_help = MAN_ENDING.long())]
pub struct ManArgs {
    /// Command that the page is about [default: the reflector itself]
    #[arg(value_name = "COMMAND")]
    #[arg(value_parser = COMMANDS)]
    command: Option<String>,
}

/// Print completions of the command line for a shell
#[derive(Args, Clone, Debug)]
#[command(after_help = COMPLETIONS_ENDING.short(), after_long_help = COMPLETIONS_ENDING.long())]
pub struct CompletionsArgs {
    /// Shell that reads them
    #[arg(value_name = "SHELL", value_parser = shell_parser())]
    shell: Shell,
}

/// Prints the page on `program`, or on one of its commands.
pub fn man(args: &ManArgs, mut program: clap::Command) -> Result<Exit, Error> {
    program.build();
    let named = |name: &String| program.find_subcommand(name).cloned();
    let command = args.command.as_ref().and_then(named).unwrap_or(program);
    let mut page = Vec::new();
    let source = concat!("reflector ", env!("CARGO_PKG_VERSION"));
    let rendered = Man::new(command).source(source).render(&mut page);
    print(rendered.and_then(|()| io::stdout().write_all(&page)))
}

/// Prints the completions of `program`.
pub fn completions(args: &CompletionsArgs, mut program: clap::Command) -> Result<Exit, Error> {
    // Into memory, since it would panic where the reader of stdout has left.
    let mut script = Vec::new();
    generate(args.shell, &mut program, "reflector", &mut script);
    print(io::stdout().write_all(&script))
}

fn print(result: io::Result<()>) -> Result<Exit, Error> {
    output::written(result.and_then(|()| io::stdout().flush()))?;
    Ok(Exit::Done)
}

fn shell_parser() -> impl TypedValueParser<Value = Shell> {
    one_of([
        (PossibleValue::new("bash"), Shell::Bash),
        (PossibleValue::new("zsh"), Shell::Zsh),
        (PossibleValue::new("fish"), Shell::Fish),
        (PossibleValue::new("elvish"), Shell::Elvish),
        (PossibleValue::new("powershell"), Shell::PowerShell),
    ])
}
