//! How many threads to run: one for each physical core that this process may use, within its container's quota.
//!
//! Why: the kernels fill a core's vector ports, so a second hardware thread on it only takes cache from the first.
//! How: `available_parallelism` knows affinity and quota; Linux tells in /sys which logical processors share a core.

use std::collections::HashSet;

/// Threads for the products of this process, at least 1.
pub fn threads() -> usize {
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    match physical_cores() {
        Some(cores) if cores > 0 => logical.min(cores),
        _ => logical,
    }
}

/// Distinct cores among the processors this process may run on, where the system says.
fn physical_cores() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let siblings = |cpu: usize| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        std::fs::read_to_string(path).ok().map(|list| list.trim().to_owned())
    };
    let cores: Option<HashSet<String>> = cpu_list(allowed.trim())?.into_iter().map(siblings).collect();
    cores.map(|cores| cores.len())
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
        let logical = std::thread::available_parallelism().map_or(1, usize::from);
        assert!((1..=logical).contains(&threads()));
    }
}
