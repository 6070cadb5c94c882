//! The program under test: where it is, and how it is run.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

use reflector_netlab::topology::Namespace;
use signal_hook::SigId;
use signal_hook::consts::SIGHUP;
use signal_hook::flag;

/// The program under test: `REFLECTOR_BIN`, or what cargo has built for the running test program.
///
/// # Panics
/// When there is none.
pub fn program() -> PathBuf {
    if let Some(program) = env::var_os("REFLECTOR_BIN") {
        return program.into();
    }
    // target/PROFILE/deps/TEST is run, and target/PROFILE/reflector stands beside deps.
    let test = env::current_exe().expect("/proc tells");
    let folder = test.parent().and_then(Path::parent);
    let program = folder.expect("a file below /").join("reflector");
    assert!(
        program.is_file(),
        "{} is not there: `cargo build` builds it, and REFLECTOR_BIN names another",
        program.display()
    );
    program
}

/// Whether tests run under nohup(1) or not, the program does not: what is handled here is not
/// ignored by what is started (execve(2)).
static HANGUPS: LazyLock<SigId> = LazyLock::new(|| {
    let handled = flag::register(SIGHUP, Arc::new(AtomicBool::new(false)));
    handled.expect("SIGHUP can be handled")
});

/// The program's command with `args`, not started; environment options of the caller left out.
pub fn command(args: &[&str]) -> Command {
    let _ = *HANGUPS;
    let mut command = Command::new(program());
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("REFLECTOR_") {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the program with `args` in `namespace` to its end, which comes by itself even where it
/// should have refused to start.
pub fn run_to_end(namespace: &Namespace, args: &[&str]) -> Output {
    to_end(namespace, command(args))
}

/// The same, of a command with more to it than arguments.
pub fn to_end(namespace: &Namespace, mut command: Command) -> Output {
    if command
        .get_envs()
        .all(|(name, _)| name != "REFLECTOR_DURATION")
    {
        command.env("REFLECTOR_DURATION", "3s");
    }
    namespace
        .run(|| command.output())
        .expect("the program starts")
}

/// What a program wrote, as text.
pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the program writes UTF-8")
}
