//! Help, and what the README says of it.

use std::env;
use std::fs;
use std::process::Stdio;

use reflector_testkit::{command, text};

#[test]
fn help_and_version_go_to_stdout() {
    let output = |line: &str| {
        let args: Vec<_> = line.split(' ').collect();
        let output = command(&args).stderr(Stdio::piped()).output().unwrap();
        assert!(output.status.success());
        assert_eq!(text(&output.stderr), "");
        text(&output.stdout).to_owned()
    };
    let version = concat!("reflector ", env!("CARGO_PKG_VERSION"), " (commit ");
    assert!(output("--version").starts_with(version));
    let said_by_both = ["Addresses:", "--listen", "Examples:", "reflector --cores 2"];
    let said_by_the_long_one = ["IP_FREEBIND", "REFLECTOR_LOG_FORMAT", "Exit status:"];
    let (short, long) = (output("-h"), output("--help"));
    for said in said_by_both {
        assert!(short.contains(said), "{said} is missing in {short}");
        assert!(long.contains(said), "{said} is missing in {long}");
    }
    for said in said_by_the_long_one {
        assert!(!short.contains(said), "{said} is too much for {short}");
        assert!(long.contains(said), "{said} is missing in {long}");
    }
    assert_eq!(output("help"), long);
    for name in [
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
    ] {
        let long = output(&format!("help {name}"));
        assert_eq!(output(&format!("{name} --help")), long);
        assert!(
            long.contains(&format!("Usage: reflector {name} ")),
            "{long}"
        );
    }
}

#[test]
fn the_readme_lists_the_options_as_the_help_does() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let output = command(&["-h"]).output().unwrap();
    let (_, options) = text(&output.stdout).split_once("\n\nAddresses:").unwrap();
    let (options, _) = options.split_once("\n\nExamples:").unwrap();
    let block = format!("```text\nAddresses:{options}\n```\n");
    assert!(readme.contains(&block), "README.md should have:\n{block}");
}

#[test]
fn the_manual_page_and_the_completions_know_every_option() {
    let printed = |args: &[&str]| {
        let output = command(args).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "");
        text(&output.stdout).to_owned()
    };
    let page = printed(&["man"]);
    assert!(page.contains(".TH reflector 1"), "{page}");
    for option in ["reply\\-interface", "loop\\-guard", "reflector\\-load(1)"] {
        assert!(page.contains(option), "{option}: {page}");
    }
    let of_load = printed(&["man", "load"]);
    assert!(of_load.contains(".TH reflector-load 1"), "{of_load}");
    assert!(of_load.contains("find\\-rate"), "{of_load}");
    let synopsis = ".SH SYNOPSIS\n\\fBreflector load\\fR [";
    assert!(of_load.contains(synopsis), "{of_load}");
    for page in [page, of_load] {
        assert!(!page.contains('\u{1b}'), "no colours: {page}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        for option in ["loop-guard", "find-rate", "diagnose"] {
            assert!(script.contains(option), "{shell}: {option}");
        }
    }
}
