//! Lists of peers that are made to do harm: the start is refused at once, whatever stands there.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use reflector_testkit::program;

/// KiB of address space that this fits in, most of it for the text of a list.
const ROOM_KIB: u32 = 512 << 10;

#[test]
fn a_list_without_end_is_refused_within_bounds() {
    let folder = std::env::temp_dir().join(format!("reflector-lists-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    let made = Command::new("mkfifo").arg(path("fifo")).status();
    assert!(made.unwrap().success());
    symlink("/dev/zero", path("zero")).unwrap();
    fs::write(path("line"), "x".repeat(48 << 20)).unwrap();
    // Eleven prefixes a line.
    fs::write(path("many"), "private\n".repeat(200_000)).unwrap();
    let sparse = fs::File::create(path("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    for (name, words) in [
        (
            "fifo",
            "it is not a regular file; a list is a regular file of text",
        ),
        (
            "zero",
            "it is not a regular file; a list is a regular file of text",
        ),
        ("line", "line 1: '…xxx"),
        (
            "many",
            "line 190651: there are more than 2097152 prefixes; shorter ones",
        ),
        ("sparse", "it has more than 64 MiB; shorter prefixes"),
        (".", "Is a directory"),
    ] {
        // Two million prefixes take a while.
        let options = match name {
            "many" => &["--allow-file"][..],
            _ => &["--allow-file", "--deny-file"],
        };
        for option in options {
            let script = "ulimit -v \"$1\"; exec \"$0\" \"$2\" \"$3\" --listen 127.0.0.1:0 -d 1s";
            let mut command = Command::new("timeout");
            command.env_remove("REFLECTOR_REQUIRE");
            command.args(["60", "sh", "-c", script]).arg(program());
            command.args([&ROOM_KIB.to_string(), *option, &path(name)]);
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{name}: {said}");
            assert!(said.contains("cannot read the list"), "{name}: {said}");
            assert!(said.contains(words) && said.len() < 800, "{name}: {said}");
        }
    }
    fs::remove_dir_all(&folder).unwrap();
}
