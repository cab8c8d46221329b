//! What the kernel says about processes and cores: CPU time, waiting time, memory, pinning.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The unit of `/proc/PID/stat`, fixed by the kernel's ABI on Linux (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// Runs `work` with this thread on `core` alone, and puts the thread back. Processes and threads started by `work`
/// inherit the core.
pub fn on_core<T>(core: usize, work: impl FnOnce() -> T) -> io::Result<T> {
    let before = sched_getaffinity(None)?;
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only)?;
    let result = work();
    sched_setaffinity(None, &before)?;
    Ok(result)
}

/// Lets this process and its children open as many files as the system allows them: a connection is one.
pub fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With the old limit most of what we do still works, and what does not says so.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The cores this process may use, lowest first.
pub fn cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// CPU time that a process and its children had used at one moment, by thread.
#[derive(Debug, Clone, Default)]
pub struct CpuReading {
    /// Thread id → nanoseconds on a CPU, and waiting for one.
    threads: HashMap<u32, (u64, u64)>,
    /// Process id → ticks, of all its threads, those that ended included.
    processes: HashMap<u32, Ticks>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Ticks {
    user: u64,
    system: u64,
    /// All that its children used which have ended and were waited for.
    ended: u64,
}

/// CPU time used between two readings.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CpuUsed {
    pub total: Duration,
    /// Part of `total`, known to a tick of 10 ms.
    pub user: Duration,
    pub system: Duration,
    /// Time in which a thread could have run but another had the core.
    pub waited: Duration,
}

impl CpuReading {
    /// Reads `pids` and all their descendants. io_uring workers are threads of their process, so they are in it.
    pub fn of(pids: &[u32]) -> Self {
        let all: Vec<u32> = pids.iter().flat_map(|&pid| family(pid)).collect();
        Self::of_all(&all)
    }

    /// Reads `pid` without its descendants.
    pub fn alone(pid: u32) -> Self {
        Self::of_all(&[pid])
    }

    fn of_all(pids: &[u32]) -> Self {
        let mut reading = Self::default();
        for &pid in pids {
            if let Some(stat) = stat(pid) {
                reading.processes.insert(pid, stat.ticks);
            }
            for thread in entries(&format!("/proc/{pid}/task")) {
                if let Some(times) = schedstat(&format!("/proc/{pid}/task/{thread}/schedstat")) {
                    reading.threads.insert(thread, times);
                }
            }
        }
        reading
    }

    /// What was used since `earlier`.
    pub fn since(&self, earlier: &Self) -> CpuUsed {
        let (mut ran, mut waited) = (0, 0);
        for (thread, now) in &self.threads {
            let before = earlier.threads.get(thread).copied().unwrap_or_default();
            ran += now.0.saturating_sub(before.0);
            waited += now.1.saturating_sub(before.1);
        }
        let (mut user, mut system, mut ended) = (0, 0, 0);
        for (process, now) in &self.processes {
            let before = earlier.processes.get(process).copied().unwrap_or_default();
            user += now.user.saturating_sub(before.user);
            system += now.system.saturating_sub(before.system);
            ended += now.ended.saturating_sub(before.ended);
        }
        // What a process that ended had used before `earlier` is in its parent's count, but not in this time.
        let gone = earlier.processes.iter().filter(|(process, _)| !self.processes.contains_key(process));
        let ended = ended.saturating_sub(gone.map(|(_, before)| before.user + before.system).sum());
        let (user, system) = (ticks(user), ticks(system));
        // A thread that ended in between has left the list with its time; the process's own count still has it. The
        // two differ by rounding alone otherwise.
        let by_threads = Duration::from_nanos(ran);
        let by_process = (user + system).saturating_sub(2 * TICK);
        let total = by_threads.max(by_process) + ticks(ended);
        CpuUsed { total, user, system, waited: Duration::from_nanos(waited) }
    }
}

/// `pid` and its descendants, as far as they live.
pub fn family(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> =
        entries("/proc").into_iter().filter_map(|child| Some((child, stat(child)?.parent))).collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    family
}

/// Resident memory of `pid` and its descendants in bytes, shared pages split among their users.
pub fn memory_bytes(pid: u32) -> u64 {
    family(pid).into_iter().filter_map(proportional_bytes).sum()
}

fn proportional_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// What one core did: time taken by anyone, and time the host took from the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct CoreReading {
    pub busy: Duration,
    pub stolen: Duration,
}

impl CoreReading {
    /// Zero when the kernel does not list the core.
    pub fn of(core: usize) -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let name = format!("cpu{core} ");
        let Some(line) = text.lines().find_map(|line| line.strip_prefix(&name)) else {
            return Self::default();
        };
        let columns: Vec<u64> = line.split_whitespace().filter_map(|column| column.parse().ok()).collect();
        let at = |index: usize| columns.get(index).copied().unwrap_or(0);
        // user, nice, system, idle, iowait, irq, softirq, steal (proc_stat(5))
        Self { busy: ticks(at(0) + at(1) + at(2) + at(5) + at(6)), stolen: ticks(at(7)) }
    }

    pub fn since(self, earlier: Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(earlier.busy),
            stolen: self.stolen.saturating_sub(earlier.stolen),
        }
    }
}

/// CPU time of all children of this process that have ended and were waited for, to a tick of 10 ms.
pub fn ended_children() -> Duration {
    stat(std::process::id()).map_or(Duration::ZERO, |stat| ticks(stat.ticks.ended))
}

struct Stat {
    parent: u32,
    ticks: Ticks,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses; what follows its last parenthesis starts with field 3.
    let columns: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let number = |index: usize| columns.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: columns.get(1)?.parse().ok()?,
        ticks: Ticks { user: number(11)?, system: number(12)?, ended: number(13)? + number(14)? },
    })
}

fn schedstat(path: &str) -> Option<(u64, u64)> {
    let text = fs::read_to_string(path).ok()?;
    let mut columns = text.split_whitespace();
    Some((columns.next()?.parse().ok()?, columns.next()?.parse().ok()?))
}

fn entries(folder: &str) -> Vec<u32> {
    let Ok(folder) = fs::read_dir(folder) else { return Vec::new() };
    folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn ticks(count: u64) -> Duration {
    TICK * u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn spinning_is_seen_as_cpu_time() {
        let before = CpuReading::alone(std::process::id());
        let start = Instant::now();
        let mut turns = 0u64;
        while start.elapsed() < Duration::from_millis(60) {
            turns = std::hint::black_box(turns + 1);
        }
        let used = CpuReading::alone(std::process::id()).since(&before);
        // Others may have had the core for most of the time; a tick or two must have been ours.
        assert!(used.total >= Duration::from_millis(5), "{used:?}");
    }

    fn reading(threads: &[(u32, (u64, u64))], processes: &[(u32, Ticks)]) -> CpuReading {
        CpuReading {
            threads: threads.iter().copied().collect(),
            processes: processes.iter().copied().collect(),
        }
    }

    #[test]
    fn a_thread_that_ended_is_still_counted() {
        let process = |ticks| (1, Ticks { user: ticks, system: ticks, ended: 0 });
        let before = reading(&[(1, (0, 0)), (2, (500_000_000, 0))], &[process(25)]);
        let after = reading(&[(1, (1_000_000, 7))], &[process(75)]);
        let used = after.since(&before);
        assert_eq!(used.total, Duration::from_millis(980));
        assert_eq!(used.waited, Duration::from_nanos(7));
    }

    #[test]
    fn a_child_that_ended_is_still_counted() {
        let child = Ticks { user: 30, system: 20, ended: 0 };
        let before = reading(&[(1, (0, 0)), (2, (500_000_000, 0))], &[(1, Ticks::default()), (2, child)]);
        let after = reading(&[(1, (0, 0))], &[(1, Ticks { user: 0, system: 0, ended: 60 })]);
        assert_eq!(after.since(&before).total, Duration::from_millis(100));
    }
}
