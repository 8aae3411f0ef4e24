//! How many threads to run: one for each physical core that this process may use, within its container's quota.
//!
//! Why: the kernels fill a core's vector ports, so a second hardware thread on it only takes cache from the first.
//! How: Linux tells in /proc which logical processors the process may use, in /sys which of them share a core; the quota
//! ([`crate::quota`]) is rounded to the nearest whole thread: of 1.5 processors two threads make more than one, of 1.25 less.
//! All is asked once a process: whoever is kept on a core, and the threads it starts, would see that core alone.

use std::sync::OnceLock;

use crate::quota;

/// Logical processors of each physical core, of those that this process may run on.
pub type Cores = Vec<Vec<usize>>;

/// Threads for the products of this process, at least 1.
pub fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| match cores() {
        Some(cores) if !cores.is_empty() => within(cores.len(), quota::processors()),
        _ => std::thread::available_parallelism().map_or(1, usize::from),
    })
}

/// Threads on so many cores that a quota of processors pays for.
fn within(cores: usize, quota: Option<f64>) -> usize {
    quota.map_or(cores, |processors| (processors.round() as usize).clamp(1, cores))
}

/// The physical cores, in the order of their first processors, where the system says.
pub fn cores() -> Option<&'static Cores> {
    static CORES: OnceLock<Option<Cores>> = OnceLock::new();
    CORES.get_or_init(read_cores).as_ref()
}

fn read_cores() -> Option<Cores> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cores: Vec<(String, Vec<usize>)> = Vec::new();
    for cpu in cpu_list(allowed.trim())? {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let siblings = std::fs::read_to_string(path).ok()?.trim().to_owned();
        match cores.iter_mut().find(|(core, _)| *core == siblings) {
            Some((_, cpus)) => cpus.push(cpu),
            None => cores.push((siblings, vec![cpu])),
        }
    }
    Some(cores.into_iter().map(|(_, cpus)| cpus).collect())
}

/// Keeps the calling thread on these processors. Only advice: where the system refuses, it runs wherever it is put.
pub fn keep_on(cpus: &[usize]) {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_setaffinity};
        let mut set = CpuSet::new();
        cpus.iter().filter(|cpu| **cpu < CpuSet::MAX_CPU).for_each(|cpu| set.set(*cpu));
        if set.count() > 0 && sched_setaffinity(None, &set).is_err() {
            // As said above.
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = cpus;
}

/// `0-3,8,10-11` as numbers (Linux' list format, Documentation/core-api/printk-formats); `None` if it is not one.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    /// More processors than any machine has: a bound for a file that is read on trust.
    const CPUS_MAX: usize = 1 << 16;
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(cpu_list("0-3,8,10-11"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(cpu_list("5"), Some(vec![5]));
        for bad in ["", "a", "3-1", "0-99999999", "1,,2"] {
            assert_eq!(cpu_list(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn there_is_always_a_thread_and_no_more_than_processors() {
        assert!((1..=cores().map_or(usize::MAX, Vec::len)).contains(&threads()));
        for (quota, expected) in
            [(None, 4), (Some(0.2), 1), (Some(1.25), 1), (Some(1.5), 2), (Some(4.0), 4), (Some(64.0), 4)]
        {
            assert_eq!(within(4, quota), expected, "{quota:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_that_is_kept_on_a_core_sees_no_other() {
        threads(); // asked before anybody is kept, as a process does
        let cores = cores().unwrap();
        let kept = cores.last().unwrap().clone();
        let seen = std::thread::spawn(move || {
            keep_on(&kept);
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            (kept, cpu_list(allowed.unwrap().trim()).unwrap(), threads())
        });
        let before = threads();
        let (kept, seen, counted) = seen.join().unwrap();
        assert_eq!(kept, seen);
        assert_eq!(counted, before, "what a kept thread sees is not what there is");
        keep_on(&[]); // changes nothing
    }
}
