//! Files that others name: opened without waiting, whatever stands under the name.
//!
//! A FIFO that nobody writes to lets open(2) wait for good, a device may have no end, and a socket
//! cannot be opened at all; each is told apart by what was opened, not by its name, which may be
//! another's a moment later.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// Opens the regular file at `path`.
///
/// # Errors
/// `ENOENT`, `EACCES` and the like; `EISDIR`; `InvalidInput` for a FIFO or a device.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = open_at_once(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    match kind.is_file() {
        true => Ok(file),
        false => Err(refused("it is not a regular file")),
    }
}

/// Opens the regular file or the pipe at `path`, such as a shell's `<(command)`. A FIFO that nobody
/// has opened to write reads as empty.
///
/// # Errors
/// `ENOENT`, `EACCES` and the like; `EISDIR`; `InvalidInput` for a device.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    let file = open_at_once(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if kind.is_fifo() {
        // Whoever has opened it to write is waited for.
        let flags = fcntl_getfl(&file)?;
        fcntl_setfl(&file, flags.difference(OFlags::NONBLOCK))?;
        return Ok(file);
    }
    match kind.is_file() {
        true => Ok(file),
        false => Err(refused("it is neither a regular file nor a pipe")),
    }
}

/// To a regular file O_NONBLOCK says nothing (open(2)).
fn open_at_once(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path)
}

fn refused(said: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::io::{Read, Write};
    use std::{env, fs, process, thread};

    #[test]
    fn what_is_no_regular_file_keeps_nobody_waiting() {
        let fifo = env::temp_dir().join(format!("reflector-fifo-{}", process::id()));
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
        let said = |opened: io::Result<File>| opened.unwrap_err().to_string();
        assert_eq!(said(open_regular(&fifo)), "it is not a regular file");

        let mut text = String::new();
        open_to_read(&fifo)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "", "nobody writes to it");
        // Opened to read as well, so that this does not wait either.
        let both = OpenOptions::new().read(true).write(true).open(&fifo);
        let mut writer = both.unwrap();
        let mut reader = open_to_read(&fifo).unwrap();
        let slow = thread::spawn(move || {
            thread::yield_now();
            writer.write_all(b"late").unwrap();
        });
        reader.read_to_string(&mut text).unwrap();
        slow.join().unwrap();
        assert_eq!(text, "late", "whoever writes is waited for");
        fs::remove_file(&fifo).unwrap();

        for device in ["/dev/zero", "/dev/null"].map(Path::new) {
            assert_eq!(said(open_regular(device)), "it is not a regular file");
            assert!(said(open_to_read(device)).contains("neither a regular file nor a pipe"));
        }
        let folder = said(open_to_read(&env::temp_dir()));
        assert!(folder.contains("Is a directory"), "{folder}");
    }
}
