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
    assert_eq!(
        output("--version"),
        format!("reflector {}\n", env!("CARGO_PKG_VERSION"))
    );
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
    for name in ["load", "diagnose", "lab", "report"] {
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
