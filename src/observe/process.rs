//! What the kernel says about this process, for `/metrics`. Read on the control thread, when asked.

use std::fs;

/// CPU time, memory and descriptors of the process, all threads included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// User and system time together, to the nanosecond.
    pub cpu_seconds: f64,
    /// To the clock tick, 10 ms.
    pub user_seconds: f64,
    pub system_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub threads: u64,
    pub open_fds: u64,
    /// `None`: no limit.
    pub max_fds: Option<u64>,
    /// Since 1970.
    pub start_seconds: f64,
}

impl Process {
    /// Reads `/proc`; what cannot be read is 0.
    pub fn read() -> Self {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let mut process = Self {
            cpu_seconds: whole(u64::try_from(cpu.tv_sec).unwrap_or(0))
                + whole(u64::try_from(cpu.tv_nsec).unwrap_or(0)) / 1e9,
            // One of them is the descriptor of the directory being read.
            open_fds: fs::read_dir("/proc/self/fd")
                .map_or(0, |entries| u64::try_from(entries.count()).unwrap_or(0).saturating_sub(1)),
            max_fds: limit.current,
            ..Self::default()
        };
        if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
            let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
            process.parse_stat(&stat, &boot);
        }
        process
    }

    /// `/proc/self/stat` (proc_pid_stat(5)) and, for the time of the boot, `/proc/stat`.
    fn parse_stat(&mut self, stat: &str, boot: &str) {
        let ticks = whole(rustix::param::clock_ticks_per_second());
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        // The second field is the name in parentheses and may contain anything; field 3 follows the last one.
        let Some((_, fields)) = stat.rsplit_once(") ") else { return };
        let fields: Vec<u64> = fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
        self.user_seconds = whole(field(14)) / ticks;
        self.system_seconds = whole(field(15)) / ticks;
        self.threads = field(20);
        self.virtual_bytes = field(23);
        self.resident_bytes = field(24) * page;
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime "));
        if let Some(boot) = boot.and_then(|seconds| seconds.trim().parse().ok()) {
            self.start_seconds = whole(boot) + whole(field(22)) / ticks;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and metrics are floating point anyway")]
fn whole(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_about_this_process() {
        let process = Process::read();
        assert!(process.cpu_seconds > 0.0);
        assert!(process.resident_bytes > 100_000 && process.virtual_bytes >= process.resident_bytes);
        assert!(process.threads >= 2, "the test's thread and the main one");
        assert!(process.open_fds >= 3);
        assert!(process.start_seconds > 1.6e9);
    }

    #[test]
    fn a_name_with_a_parenthesis_moves_no_field() {
        let mut process = Process::default();
        let stat = "7 (a) b) S 1 7 7 0 -1 4 1 0 0 0 250 50 0 0 20 0 9 0 300 8192 2 1";
        process.parse_stat(stat, "cpu 1\nbtime 1700000000\n");
        let ticks = whole(rustix::param::clock_ticks_per_second());
        assert_eq!(process.user_seconds, 250.0 / ticks);
        assert_eq!(process.threads, 9);
        assert_eq!(process.virtual_bytes, 8192);
        assert_eq!(process.start_seconds, 1_700_000_000.0 + 300.0 / ticks);
    }
}
