//! Memory that goes back to the kernel at once, while its addresses are kept.
//!
//! An allocator keeps blocks of 16 KiB in pages of 512 KiB and gives back only pages that are free as a whole. After a burst of
//! connections the few buffers still in use lie scattered over all of them, and everything stays resident.

/// The unit of memory. Larger pages, as on some ARM machines, make the kernel refuse what it cannot do.
const PAGE: usize = 4096;

/// Drops the content of `bytes`, and gives the kernel the pages that lie in it as a whole.
#[expect(unsafe_code, reason = "no safe interface tells the kernel that memory is not needed")]
pub(super) fn empty(bytes: &mut Vec<u8>) {
    bytes.clear();
    let memory = bytes.spare_capacity_mut();
    let before = memory.as_ptr().align_offset(PAGE).min(memory.len());
    let whole = &mut memory[before..];
    let length = whole.len() / PAGE * PAGE;
    let whole = &mut whole[..length];
    if !whole.is_empty() {
        // JUSTIFICATION: 10,000 idle TLS connections kept 31 KiB each before this and whole records for rustls, 11.5 since
        // (`loadtest compare --scenario idle-10000-tls`).
        // SAFETY: the pages belong to this vector alone and hold no value: their content may become anything. The advice drops the
        // content of private memory and changes no mapping (madvise(2)); where it is refused, nothing has happened.
        let _ = unsafe { libc::madvise(whole.as_mut_ptr().cast(), whole.len(), libc::MADV_DONTNEED) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of this process in memory (proc_pid_statm(5)).
    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * PAGE
    }

    #[test]
    fn memory_is_the_kernels_again_before_it_is_freed() {
        // Other tests take and give memory meanwhile, but hardly that much.
        const SIZE: usize = 256 << 20;
        let mut bytes = vec![1_u8; SIZE];
        let used = resident();
        empty(&mut bytes);
        assert!(resident() + SIZE / 2 < used);
        assert!(bytes.capacity() >= SIZE);
        bytes.resize(SIZE, 2);
        assert!(bytes.iter().all(|byte| *byte == 2), "it can be used again");
    }

    #[test]
    fn neighbours_of_what_is_dropped_stay_as_they_are() {
        for size in [0, 1, 100, PAGE, PAGE + 1, 3 * PAGE - 1] {
            let (before, mut between, behind) = (vec![7; size], vec![8; size], vec![9; size]);
            empty(&mut between);
            assert!(before.iter().all(|byte| *byte == 7) && behind.iter().all(|byte| *byte == 9));
        }
    }
}
