//! What the kernel tells about the machine and about a server process.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::servers;

pub(crate) fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    model.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':'])).to_owned()
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// The short commit of the working copy, with `-dirty` when it has changes.
pub(crate) fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(servers::root()).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let commit = git(&["rev-parse", "--short", "HEAD"]);
    let is_dirty = !git(&["status", "--porcelain", "--", ".", ":!bench/results"]).is_empty();
    format!("{commit}{}", if is_dirty { "-dirty" } else { "" })
}

/// How many processes wanted a core over the last minute. Before a run it should be near nothing.
pub(crate) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

/// Kilobytes under `name` (`VmRSS`, `VmHWM`) in the status of a process.
pub(crate) fn memory_kb(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()).context("no such line")?;
    Ok(number.parse()?)
}

/// Lets this process and the servers it starts open as many files as the machine allows; how many that is.
pub(crate) fn raise_open_files() -> Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX).context("raise the limit of open files")
}

/// Bytes of the files below a folder. What goes away meanwhile does not count.
pub(crate) fn folder_size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().map_while(Result::ok);
    let size_of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(size_of).sum()
}

/// Cache flushes that all disks of the machine have completed: what `fsync` and `fdatasync` end in.
pub(crate) fn disk_flushes() -> Result<u64> {
    Ok(flushes_of(&fs::read_to_string("/proc/diskstats")?))
}

fn flushes_of(diskstats: &str) -> u64 {
    // Documented in the kernel's iostats: the 19th column, since 5.5.
    diskstats.lines().filter_map(|line| line.split_whitespace().nth(18)?.parse::<u64>().ok()).sum()
}

/// Time on a core that the threads of this name in this process have had so far.
pub(crate) fn thread_time(name: &str) -> Result<Duration> {
    let mut nanos = 0;
    for entry in fs::read_dir("/proc/self/task")? {
        let thread = entry?.path();
        // A thread may be gone by the time it is looked at.
        let read = |file| fs::read_to_string(thread.join(file)).unwrap_or_default();
        if read("comm").trim_end() == name {
            let first = read("schedstat").split(' ').next().and_then(|first| first.parse().ok());
            nanos += first.unwrap_or(0_u64);
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// Time on a core that a process and its children have had so far, without that of threads that ended.
pub(crate) fn core_time(pid: u32) -> Result<Duration> {
    let mut time = Duration::ZERO;
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = entry?.path();
        // A thread may be gone by the time it is looked at.
        let read = |file| fs::read_to_string(thread.join(file)).unwrap_or_default();
        let nanos = read("schedstat").split(' ').next().and_then(|first| first.parse().ok());
        time += Duration::from_nanos(nanos.unwrap_or_default());
        for child in read("children").split_whitespace() {
            time += core_time(child.parse()?)?;
        }
    }
    Ok(time)
}

pub(crate) fn socket_inodes(pid: u32) -> Result<HashSet<String>> {
    let mut inodes = HashSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor may be gone by the time it is looked at.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        let target = target.to_string_lossy();
        if let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
            inodes.insert(inode.to_owned());
        }
    }
    Ok(inodes)
}

/// The port of the first listening socket in `/proc/net/tcp` that is one of `inodes`.
pub(crate) fn listening_port(table: &str, inodes: &HashSet<String>) -> Option<u16> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, .., _] = columns[..] else { return None };
        if state != LISTEN || !inodes.contains(*columns.get(9)?) {
            return None;
        }
        u16::from_str_radix(local.split_once(':')?.1, 16).ok()
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::Stdio;

    use super::*;

    #[test]
    fn the_port_is_that_of_the_listening_socket_of_the_process() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1\n\
             1: 0100007F:46AA 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 12 1\n\
             2: 0100007F:46AB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 13 1\n";
        let of = |inode: &str| listening_port(table, &HashSet::from([inode.to_owned()]));
        assert_eq!(of("13"), Some(0x46AB));
        assert_eq!(of("12"), None);
        assert_eq!(of("14"), None);
    }

    #[test]
    fn the_core_time_of_a_process_has_that_of_its_children() {
        let busy = "read start; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done; read end";
        let mut parent = Command::new("sh")
            .args(["-c", &format!("sh -c '{busy}' <&0; true")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = parent.stdin.take().unwrap();
        let before = core_time(parent.id()).unwrap();
        stdin.write_all(b"\n").unwrap();
        let mut said = [0; 5];
        parent.stdout.take().unwrap().read_exact(&mut said).unwrap();
        let after = core_time(parent.id()).unwrap();
        drop(stdin);
        parent.wait().unwrap();
        // A hundred thousand steps of a shell take tens of milliseconds; the parent only waits.
        assert!(after - before > Duration::from_millis(5), "{before:?} {after:?}");
    }

    #[test]
    fn flushes_are_summed_over_the_disks() {
        let stats = "254 0 vda 8816 4453 2592162 19461 1654 8475 562920 2981 0 8156 22744 3207 33 104368 289 195 12\n\
             7 0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 5 0\n";
        assert_eq!(flushes_of(stats), 200);
    }
}
