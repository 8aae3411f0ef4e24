//! How much processor time the system leaves this process: the quota of its control group and of those above it.
//!
//! Why: more threads than the quota pays for are stopped together for the rest of each period; one thread a whole
//! processor keeps all of its speed. The standard library cuts 1.5 processors down to 1, and two threads do more with them.
//! How (Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1; proc_pid_mountinfo(5)): the group's path from
//! /proc/self/cgroup, where groups are mounted from /proc/self/mountinfo, then `cpu.max` or `cpu.cfs_quota_us`.

use std::path::{Path, PathBuf};

/// Processors that the quota pays for; `None` where there is none, or where the system does not say.
pub fn processors() -> Option<f64> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    least(&groups, &mounts, read)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The least quota of every group that the process is in.
fn least(groups: &str, mounts: &str, read: impl Fn(&Path) -> Option<String>) -> Option<f64> {
    let mut quotas = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let version = match controllers {
            "" => Version::Two,
            list if list.split(',').any(|controller| controller == "cpu") => Version::One,
            _ => continue,
        };
        let Some((top, group)) = mounts.lines().find_map(|mount| folder(mount, version, path)) else {
            continue;
        };
        let folders = group.ancestors().take_while(|folder| folder.starts_with(&top));
        quotas.extend(folders.filter_map(|folder| quota(folder, version, &read)));
    }
    quotas.into_iter().reduce(f64::min)
}

/// Where groups of the version are mounted, and the group of `path` in there, if `mount` says so.
fn folder(mount: &str, version: Version, path: &str) -> Option<(PathBuf, PathBuf)> {
    let (place, kind) = mount.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, top) = (place.next()?, PathBuf::from(place.next()?));
    let mut kind = kind.split(' ');
    let (kind, options) = (kind.next()?, kind.nth(1)?);
    let is_it = match version {
        Version::One => kind == "cgroup" && options.split(',').any(|option| option == "cpu"),
        Version::Two => kind == "cgroup2",
    };
    // What is mounted may be a group's own folder, as in containers.
    let group = Path::new(path).strip_prefix(root).map_or_else(|_| top.clone(), |inner| top.join(inner));
    is_it.then_some((top, group))
}

fn quota(folder: &Path, version: Version, read: impl Fn(&Path) -> Option<String>) -> Option<f64> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| *number > 0.0);
    let (quota, period) = match version {
        Version::One => (read(&folder.join("cpu.cfs_quota_us"))?, read(&folder.join("cpu.cfs_period_us"))?),
        Version::Two => {
            let both = read(&folder.join("cpu.max"))?;
            let (quota, period) = both.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
    };
    Some(number(&quota)? / number(&period)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS_1: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct";
    const MOUNTS_2: &str = "35 25 0:30 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw,nsdelegate";
    const IN_CONTAINER: &str = "35 25 0:30 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup2 rw";

    #[test]
    fn the_least_quota_up_to_the_top_counts() {
        let one: &[_] = &[("cpu/a/cpu.cfs_quota_us", "150000\n"), ("cpu/a/cpu.cfs_period_us", "100000\n")];
        let unbounded: &[_] = &[("cpu/a/cpu.cfs_quota_us", "-1"), ("cpu/a/cpu.cfs_period_us", "100000")];
        let two: &[_] =
            &[("a/b/cpu.max", "max 100000\n"), ("a/cpu.max", "250000 100000\n"), ("cpu.max", "4 1\n")];
        for (groups, mounts, files, expected) in [
            ("9:name=systemd:/\n1:cpu,cpuacct:/a", MOUNTS_1, one, Some(1.5)),
            ("1:cpu:/a", MOUNTS_1, unbounded, None),
            ("1:cpuset:/a", MOUNTS_1, one, None),
            ("0::/a/b", MOUNTS_2, two, Some(2.5)),
            ("0::/docker/ab", IN_CONTAINER, &[("cpu.max", "50000 100000")], Some(0.5)),
            ("0::/", IN_CONTAINER, &[("cpu.max", "50000 100000")], Some(0.5)),
            ("0::/a", MOUNTS_2, &[("a/cpu.max", "nonsense")], None),
            ("0::/a", MOUNTS_2, &[("a/cpu.max", "1 0")], None),
            ("nonsense", "nonsense", &[], None),
        ] {
            let read = |path: &Path| {
                let name = path.strip_prefix("/sys/fs/cgroup").unwrap();
                files.iter().find(|(file, _)| Path::new(file) == name).map(|(_, text)| (*text).to_owned())
            };
            assert_eq!(least(groups, mounts, read), expected, "{groups} {mounts}");
        }
    }
}
