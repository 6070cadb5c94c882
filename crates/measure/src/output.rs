//! What a command writes to stdout, and a reader that leaves before its end.

use std::io;

use crate::error::Error;

/// What came of writing a report. A reader that has left, such as `head`, has what it wanted: that
/// is no error, and the command goes on to its exit code.
///
/// # Errors
/// `ENOSPC` or `EIO` of stdout.
pub fn written(result: io::Result<()>) -> Result<(), Error> {
    match result {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::system("cannot write the report", &e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_may_leave_but_a_file_may_not_be_full() {
        let result = |errno| Err(io::Error::from_raw_os_error(errno));
        assert!(written(result(libc::EPIPE)).is_ok());
        let error = written(result(libc::ENOSPC)).unwrap_err();
        assert!(error.to_string().starts_with("cannot write the report: "));
    }
}
