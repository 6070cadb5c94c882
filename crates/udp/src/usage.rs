//! What a thread has used.

use std::io;
use std::mem;
use std::time::Duration;

/// CPU time of a thread, and how often it was taken from it, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user space and in the kernel.
    pub cpu: Duration,
    /// Times that the scheduler gave the CPU to another before the thread went to sleep.
    pub preempted: u64,
}

impl Usage {
    /// That of the calling thread (clock_gettime(2), getrusage(2)).
    ///
    /// The times of getrusage(2) would not do: while a thread runs, they go on by whole ticks.
    ///
    /// # Errors
    /// `EPERM` or `ENOSYS` where a seccomp profile refuses a call.
    pub fn of_thread() -> io::Result<Self> {
        // SAFETY: both are C structs of integers, for which all-zero is a value.
        let (mut cpu, mut usage): (libc::timespec, libc::rusage) = unsafe { mem::zeroed() };
        // SAFETY: the kernel writes one `timespec` to an address that is valid for one.
        if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut cpu) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel writes one `rusage` to an address that is valid for one.
        if unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            // The clock starts at zero and never goes below.
            cpu: Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32),
            preempted: usage.ru_nivcsw as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_of_this_thread_is_counted_and_of_no_other() {
        let before = Usage::of_thread().unwrap();
        let worked = |before: Usage| Usage::of_thread().unwrap().cpu - before.cpu;
        while worked(before) < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        let other = std::thread::spawn(|| Usage::of_thread().unwrap());
        let other = other.join().unwrap();
        assert!(other.cpu < Usage::of_thread().unwrap().cpu, "{other:?}");
    }
}
