//! What a thread can still do that has left the rest. All of it is a thread's own, so that each
//! test has one, and the test program itself leaves nothing but a handler.

use std::backtrace::Backtrace;
use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use reflector_sandbox::{Entered, Needs, confine_worker, enter};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// A directory for one test. Gone when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sandbox-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, name).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs `body` on a thread that has left all but `needs`.
fn left<T: Send + 'static>(needs: Needs, body: impl FnOnce() -> T + Send + 'static) -> T {
    let run = move || {
        let Entered { missing, .. } = enter(&needs, "try something else");
        // Everything that this does is there since Linux 5.13.
        assert_eq!(missing, Vec::<String>::new());
        body()
    };
    thread::spawn(run).join().unwrap()
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn open(path: &Path) -> Option<i32> {
    errno(File::open(path))
}

#[test]
fn lists_are_read_again_by_name_and_nothing_else_is_opened() {
    let (own, other) = (Directory::new("own"), Directory::new("other"));
    let (list, secret) = (own.file("list"), other.file("secret"));
    let needs = Needs {
        read: vec![list.clone()],
        ..Needs::default()
    };
    // As an editor or a ConfigMap does it, after the start.
    let (replaced, led_out) = (own.0.join("replaced"), own.0.join("led-out"));
    left(needs, {
        let (own, list) = (own.0.clone(), list.clone());
        move || {
            assert_eq!(open(&list), None);
            assert_eq!(open(Path::new("/proc/thread-self/status")), None);
            assert_eq!(open(&secret), Some(libc::EACCES));
            assert_eq!(open(Path::new("/etc/passwd")), Some(libc::EACCES));
            assert_eq!(
                errno(File::options().append(true).open(&list)),
                Some(libc::EACCES)
            );
            assert_eq!(errno(File::create(own.join("made"))), Some(libc::EACCES));
        }
    });
    fs::rename(own.file("new"), &replaced).unwrap();
    std::os::unix::fs::symlink(other.0.join("secret"), &led_out).unwrap();
    let needs = Needs {
        read: vec![list],
        ..Needs::default()
    };
    left(needs, move || {
        assert_eq!(open(&replaced), None);
        assert_eq!(open(&led_out), Some(libc::EACCES));
    });
}

#[test]
fn capabilities_are_gone_but_for_those_that_are_needed() {
    let may = capabilities(None).unwrap().effective;
    if !may.contains(CapabilitySet::SETPCAP) {
        eprintln!("SKIPPED capabilities: there are none to drop");
        return;
    }
    let sets = |needs| left(needs, sets);
    assert_eq!(sets(Needs::default()), [0; 5]);
    let rebind = Needs {
        rebind: true,
        ..Needs::default()
    };
    let listen = |port| Needs {
        listen: Some(port),
        ..Needs::default()
    };
    let kept = |one| (capabilities(None).unwrap().permitted & one).bits();
    let raw = kept(CapabilitySet::NET_RAW);
    assert_eq!(sets(rebind), [0, raw, raw, 0, 0]);
    let bind = kept(CapabilitySet::NET_BIND_SERVICE);
    assert_eq!(sets(listen(80)), [0, bind, bind, 0, 0]);
    assert_eq!(sets(listen(9188)), [0; 5]);
}

#[test]
fn a_list_that_is_somebody_else_s_can_be_read_again() {
    let own = Directory::new("others");
    let list = own.file("list");
    fs::set_permissions(&list, PermissionsExt::from_mode(0o600)).unwrap();
    let given = chown(&list, Some(65534), None);
    let may = capabilities(None).unwrap().effective;
    if given.is_err() || !may.contains(CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE)
    {
        eprintln!("SKIPPED a list of somebody else's: {given:?}, {may:?}");
        return;
    }
    for had in [CapabilitySet::DAC_READ_SEARCH, CapabilitySet::DAC_OVERRIDE] {
        let needs = Needs {
            read: vec![list.clone()],
            ..Needs::default()
        };
        let list = list.clone();
        let run = move || {
            let sets_with = CapabilitySets {
                effective: had,
                permitted: had,
                inheritable: CapabilitySet::empty(),
            };
            set_capabilities(None, sets_with).unwrap();
            left(needs, move || {
                assert_eq!(open(&list), None);
                assert_eq!(sets()[2], had.bits());
            });
        };
        thread::spawn(run).join().unwrap();
    }
}

/// The calling thread's, as the kernel tells them: inheritable, permitted, effective, bounding,
/// ambient.
fn sets() -> [u64; 5] {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    };
    ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(of)
}

#[test]
fn no_program_is_started_no_tcp_spoken_and_datagrams_go_on() {
    left(Needs::default(), || {
        assert_eq!(errno(Command::new("/bin/true").spawn()), Some(libc::EPERM));
        let listener = TcpListener::bind("127.0.0.1:0");
        // Landlock's, or the filter's of listen(2).
        assert!(matches!(errno(listener), Some(libc::EACCES | libc::EPERM)));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
        assert!(thread::spawn(|| true).join().unwrap(), "threads are left");
    });
}

#[test]
fn who_hands_sockets_over_removes_the_file_and_listens_at_one_port() {
    let (own, other) = (Directory::new("meeting"), Directory::new("elsewhere"));
    let (socket, elsewhere) = (own.file("socket"), other.file("socket"));
    let free = || {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let (named, unnamed) = (free(), free());
    let needs = Needs {
        takeover: Some(socket.clone()),
        listen: Some(named.port()),
        ..Needs::default()
    };
    left(needs, {
        let (own, socket, elsewhere) = (own.0.clone(), socket.clone(), elsewhere.clone());
        move || {
            assert_eq!(errno(fs::remove_file(elsewhere)), Some(libc::EACCES));
            assert_eq!(errno(fs::remove_file(&socket)), None);
            assert_eq!(errno(File::create(own.join("made"))), Some(libc::EACCES));
            assert_eq!(errno(TcpListener::bind(named)), None);
            // Before Linux 6.7 Landlock knows no TCP, and listen(2) is left.
            let unnamed = errno(TcpListener::bind(unnamed));
            assert!(matches!(unnamed, Some(libc::EACCES) | None), "{unnamed:?}");
        }
    });
    assert!(!socket.exists() && elsewhere.exists());
    // Who does not, does neither.
    left(Needs::default(), move || {
        let refused = errno(fs::remove_file(&elsewhere));
        assert!(
            matches!(refused, Some(libc::EPERM | libc::EACCES)),
            "{refused:?}"
        );
        assert!(TcpListener::bind(named).is_err());
    });
}

#[test]
fn a_worker_that_panics_says_so_and_ends_alone() {
    let told = left(Needs::default(), || {
        let worker = thread::spawn(|| {
            confine_worker().unwrap();
            // What a panic does with RUST_BACKTRACE=1, without its output.
            let trace = Backtrace::force_capture().to_string();
            assert!(!trace.is_empty());
            assert_eq!(open(Path::new("/proc/self/status")), Some(libc::EACCES));
            let memory: Vec<Vec<u8>> = (0..64).map(|it| vec![1; it << 14]).collect();
            drop(memory);
            std::panic::resume_unwind(Box::new("as a panic that is caught"));
        });
        worker.join().unwrap_err().downcast::<&str>().unwrap()
    });
    assert_eq!(*told, "as a panic that is caught");
}
