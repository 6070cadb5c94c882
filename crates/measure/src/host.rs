//! The kernel that runs, and the state of this process's threads.

use std::fs;

/// The kernel's release, such as `6.12.3-amd64` (uname(2)).
pub fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// The state of a thread of this process as one letter (proc_pid_stat(5)): `R` has or wants a CPU,
/// `S` and `D` sleep, `T` and `t` are stopped, `X` has gone. `None` where `/proc` does not tell.
pub fn thread_state(thread: i32) -> Option<char> {
    match fs::read_to_string(format!("/proc/self/task/{thread}/stat")) {
        // The name comes before it, in parentheses, and may hold any character.
        Ok(stat) => stat.rsplit_once(')')?.1.trim_start().chars().next(),
        Err(_) => fs::exists("/proc/self/task").ok()?.then_some('X'),
    }
}

/// Whether the running kernel is at least `major.minor`. A release that is no number is an old one.
pub fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = kernel_release();
    let mut numbers = release
        .split(['.', '-', '+'])
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_thread_has_a_state_and_one_that_never_was_has_gone() {
        let own = rustix::thread::gettid().as_raw_pid();
        assert_eq!(thread_state(own), Some('R'));
        assert_eq!(thread_state(i32::MAX), Some('X'));
    }

    #[test]
    fn kernel_releases_compare_by_number() {
        assert!(kernel_is_at_least(3, 0));
        assert!(!kernel_is_at_least(999, 0));
    }
}
