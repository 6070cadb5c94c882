//! Memory that the start needed and nothing needs any more.

use std::ffi::c_void;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;

/// Gives back what the allocator holds free, and the resident pages of code and constants, of the
/// program and its libraries: what is used again comes back from the page cache, and what only the
/// start needed does not. Returns how many bytes of mappings were given back, resident or not.
///
/// # Errors
/// `ENOENT` where /proc is not mounted or says nothing of mappings.
pub fn release() -> io::Result<usize> {
    trim();
    let mappings = BufReader::with_capacity(1 << 16, File::open("/proc/self/smaps")?);
    let mut released = 0;
    for range in code(mappings)? {
        let (start, len) = (range.start as *mut c_void, range.len());
        // SAFETY: madvise(2) with MADV_DONTNEED changes what is read at these addresses to what the
        // file holds there, which is what was read before: the mapping is of a file, `code` has
        // seen that no page of it is a copy of this process's own, in memory or swapped out
        // (Anonymous, Swap: 0), and none can have become one since, because it cannot be written
        // to. Mappings of the program and of what it is linked with are there until it ends; if one
        // were gone, nothing would happen to addresses without a mapping, and whoever mapped others
        // there anew would be another thread, which does not map at addresses that it has not got
        // from the kernel for memory of its own.
        if unsafe { libc::madvise(start, len, libc::MADV_DONTNEED) } == 0 {
            released += len;
        }
    }
    Ok(released)
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: malloc_trim(3) takes the allocator's own locks, and gives back only what is free.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give back what is free by themselves.
#[cfg(not(target_env = "gnu"))]
fn trim() {}

/// The mappings of files that cannot be written and hold nothing but what is in the file, of what
/// smaps says (proc_pid_smaps(5)).
fn code(smaps: impl BufRead) -> io::Result<Vec<Range<usize>>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let line = line?;
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("Anonymous:" | "Swap:"), Some("0")) => {}
            (Some("Anonymous:" | "Swap:"), _) => candidate = None,
            // The last line of a mapping.
            (Some("VmFlags:"), _) => found.extend(candidate.take()),
            (Some(key), Some(_)) if key.ends_with(':') => {}
            (Some(range), Some("r--p" | "r-xp")) => candidate = mapping(range, words.nth(2)),
            _ => candidate = None,
        }
    }
    Ok(found)
}

/// The addresses of a mapping of a file, which has the number `inode`.
fn mapping(range: &str, inode: Option<&str>) -> Option<Range<usize>> {
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = range.split_once('-')?;
    let is_of_file = inode.is_some_and(|inode| inode != "0");
    Some(address(start)?..address(end)?).filter(|_| is_of_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_its_file_and_stays_so_is_given_back() {
        let smaps = "\
1000-2000 r--p 00000000 fe:00 77                         /bin/program
Size:                  4 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me
2000-4000 r-xp 00001000 fe:00 77                         /bin/program
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
4000-5000 r-xp 00003000 fe:00 77                         /bin/debugged
Anonymous:             4 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
5000-6000 r--p 00004000 fe:00 77                         /bin/relocated
Anonymous:             4 kB
Swap:                  0 kB
VmFlags: rd mr mw me ac
6000-7000 rw-p 00005000 fe:00 77                         /bin/program
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd wr mr mw me ac
7000-8000 r--s 00005000 fe:00 78                         /tmp/shared
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr me ms
8000-9000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me de
9000-a000 r--p 00004000 fe:00 77                         /bin/relocated and swapped out
Anonymous:             0 kB
Swap:                  4 kB
VmFlags: rd mr mw me ac
";
        let found = code(smaps.as_bytes()).unwrap();
        assert_eq!(found, [0x1000..0x2000, 0x2000..0x4000]);
    }

    #[test]
    fn the_program_goes_on() {
        static CONSTANT: [u8; 4096] = [7; 4096];
        let sum = || CONSTANT.iter().map(|&it| u32::from(it)).sum::<u32>();
        let before = sum();
        assert!(release().unwrap() > 1 << 16);
        assert_eq!(sum(), before);
    }
}
