//! Whoever has started this program, a test as a rule: it is told once that the reflector is ready,
//! and may have it end by closing what it holds.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use clap::Args;
use reflector::report::{Ready, Report};
use reflector::server::Handle;
use reflector_measure::error::Error;
use reflector_udp::{left, signal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};

use super::reporter::{Format, Reporter};

// A doc comment on it would become the program's description.

#[derive(Args, Clone, Debug)]
pub struct StarterArgs {
    /// Print 'ready ADDR:PORT …' when ready and one line at the end, instead of columns
    ///
    /// One line for all addresses, with the ports that the kernel chose. The line at the end is
    /// 'summary', then NAME=COUNT of each counter. Nothing else goes to stdout, but for a line
    /// 'snapshot' at SIGUSR1.
    #[arg(long, conflicts_with = "json")]
    pub ready_line: bool,
    /// Write the ready line to FILE as well, or the JSON object with --json
    ///
    /// FILE appears whole, since it is renamed into place. One that was there before is removed at
    /// the start, so that nobody takes it for this one's.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Write it to the descriptor N as well, and close that
    ///
    /// N is open for writing, and from 3 on: a pipe's, as a rule.
    #[arg(long, value_name = "N", value_parser = descriptor)]
    ready_fd: Option<RawFd>,
    /// End as on SIGTERM when stdin ends
    ///
    /// The reflector so never outlives whoever has started it and holds the other end of the pipe.
    /// Stdin is a pipe, a socket or a terminal, where Ctrl-D ends it. What comes is not looked at.
    #[arg(long)]
    until_eof: bool,
}

fn descriptor(text: &str) -> Result<RawFd, String> {
    let number = text.trim().parse().ok();
    number
        .filter(|&fd| fd > libc::STDERR_FILENO)
        .ok_or_else(|| {
            "expected the number of a descriptor from 3 on (0 to 2 are stdin, stdout and stderr)"
                .to_owned()
        })
}

impl StarterArgs {
    /// Takes what the starter has left, before anything else is opened.
    ///
    /// # Errors
    /// The descriptor is not open, or not for writing; FILE cannot be replaced; stdin has no end
    /// that anybody could bring about.
    pub fn take(&self, json: bool) -> Result<Starter, Error> {
        if self.until_eof {
            check_stdin()?;
        }
        if let Some(path) = &self.ready_file {
            remove_earlier(path)?;
        }
        Ok(Starter {
            fd: self.ready_fd.map(take_descriptor).transpose()?,
            file: self.ready_file.clone().map(ReadyFile::start).transpose()?,
            json,
        })
    }

    /// Has `server` stop when stdin ends, if that is asked for.
    ///
    /// # Errors
    /// `EAGAIN` where there may be no more threads.
    pub fn stop_at_eof(&self, server: Handle) -> Result<(), Error> {
        if !self.until_eof {
            return Ok(());
        }
        let run = move || match wait_for_eof() {
            Ok(()) => server.stop(),
            Err(error) => {
                tracing::warn!("cannot read stdin: {error}; only a signal ends the reflector");
            }
        };
        let thread = thread::Builder::new().name("stdin".to_owned());
        let cannot = |e: io::Error| Error::system("cannot follow stdin", &e);
        thread.spawn(run).map(drop).map_err(cannot)
    }
}

/// Who is told, besides those who read stdout.
pub struct Starter {
    fd: Option<File>,
    file: Option<ReadyFile>,
    json: bool,
}

impl Starter {
    /// Tells it, once.
    ///
    /// # Errors
    /// What the file or the descriptor said. Where nobody reads a pipe any more, nobody waits.
    pub fn tell(&mut self, ready: &Ready) -> Result<(), Error> {
        let format = if self.json {
            Format::Json
        } else {
            Format::Lines
        };
        let mut line = Vec::new();
        let written =
            Reporter::new(&mut line, format, usize::MAX).write(Report::Ready(ready), None);
        written.expect("a vector takes all");
        if let Some(file) = self.file.take() {
            file.write(line.clone())?;
        }
        match self.fd.take().map(|mut fd| fd.write_all(&line)) {
            Some(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::system(
                "cannot write the ready line to the descriptor of --ready-fd",
                &error,
            )),
            _ => Ok(()),
        }
    }
}

fn take_descriptor(fd: RawFd) -> Result<File, Error> {
    let what = format!("cannot take the descriptor {fd} of --ready-fd");
    let taken = left::take(fd).map_err(|e| {
        Error::system(&what, &e).try_this(format!("leave it open, as `{fd}>&1` in a shell does"))
    })?;
    let mode = fcntl_getfl(&taken).map_err(|e| Error::system(&what, &e.into()))?;
    match mode & OFlags::RWMODE {
        OFlags::WRONLY | OFlags::RDWR => Ok(File::from(taken)),
        _ => Err(Error::new(what, "it is not open for writing")
            .try_this("of a pipe, pass the end that is written to")),
    }
}

/// Removes what an earlier run has left at `path`.
fn remove_earlier(path: &Path) -> Result<(), Error> {
    let what = || format!("cannot replace the ready file {}", path.display());
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::system(what(), &error)),
        Ok(found) if found.is_file() => {
            fs::remove_file(path).map_err(|e| Error::system(what(), &e))
        }
        Ok(_) => Err(Error::new(what(), "it is not a regular file")
            .try_this("--ready-fd writes to what is open already")),
    }
}

/// The file, and the thread that writes it. It is started before the sandbox takes all files away,
/// has nothing to do with datagrams, and ends before anybody is told that the reflector is ready.
struct ReadyFile {
    line: Sender<Vec<u8>>,
    thread: JoinHandle<Result<(), Error>>,
}

impl ReadyFile {
    fn start(path: PathBuf) -> Result<Self, Error> {
        let (line, lines) = channel();
        let write = move || match lines.recv() {
            Ok::<Vec<u8>, _>(line) => write_whole(&path, &line).map_err(|e| {
                Error::system(
                    format!("cannot write the ready file {}", path.display()),
                    &e,
                )
            }),
            // It has never become ready.
            Err(_) => Ok(()),
        };
        let thread = thread::Builder::new().name("ready-file".to_owned());
        let cannot = |e: io::Error| Error::system("cannot write the ready file", &e);
        let thread = thread.spawn(write).map_err(cannot)?;
        Ok(Self { line, thread })
    }

    fn write(self, line: Vec<u8>) -> Result<(), Error> {
        self.line.send(line).expect("the thread waits for it");
        self.thread.join().expect("the thread does not panic")
    }
}

/// Writes `text` to a file beside `path`, and renames it: nobody sees a part of it.
fn write_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", process::id()));
    let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Refuses what ends at once or never: a file, /dev/null, which a stdin that is closed becomes.
fn check_stdin() -> Result<(), Error> {
    let what = "cannot run until stdin ends (--until-eof)";
    let kind = fstat(io::stdin()).map_err(|e| Error::system(what, &e.into()))?;
    let kind = FileType::from_raw_mode(kind.st_mode);
    if io::stdin().is_terminal() {
        // A read in the background would stop the process; where this is ignored it fails
        // (termios(3), tty_ioctl(4)).
        signal::ignore(libc::SIGTTIN);
        return Ok(());
    }
    match matches!(kind, FileType::Fifo | FileType::Socket) {
        true => Ok(()),
        false => Err(
            Error::new(what, "it is neither a pipe nor a socket nor a terminal")
                .try_this("have whoever starts it hold the other end of a pipe"),
        ),
    }
}

fn wait_for_eof() -> io::Result<()> {
    let mut stdin = io::stdin().lock();
    let mut bytes = [0; 4096];
    loop {
        match stdin.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Whoever shares it has made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&io::stdin(), PollFlags::IN)], None)?;
            }
            // A socket whose other end has gone with something unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
