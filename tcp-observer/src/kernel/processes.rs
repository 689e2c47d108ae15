//! Whose a socket is: the processes that have it open, found by its inode in `/proc/PID/fd`.
//!
//! All processes are looked through once, however many sockets are asked for. What this process may not see (another
//! user's, without privilege) is not found.

use std::{
    collections::{HashMap, HashSet},
    fs,
};

/// A process that has a socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// What the kernel calls it: the first 15 bytes of its name.
    pub name: String,
}

/// For each of these inodes the first process that has it open.
pub fn of_sockets(inodes: &HashSet<u32>) -> HashMap<u32, Process> {
    let mut found = HashMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        if found.len() == inodes.len() {
            break;
        }
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let links = descriptors.flatten().filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        for inode in links.filter_map(|link| inode(link.to_str()?)).filter(|inode| inodes.contains(inode)) {
            found.entry(inode).or_insert_with(|| Process { pid, name: name_of(pid) });
        }
    }
    found
}

/// What a descriptor's link says: `socket:[4242]`.
fn inode(link: &str) -> Option<u32> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).map(|name| name.trim_end().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsRawFd};

    use super::*;

    #[test]
    fn a_socket_of_this_process_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let own = inode(link.to_str().unwrap()).unwrap();
        let found = of_sockets(&HashSet::from([own, 1]));
        assert_eq!(found[&own].pid, std::process::id());
        assert!(!found.contains_key(&1));
    }

    #[test]
    fn only_sockets_have_the_inode_of_one() {
        assert_eq!(inode("socket:[4242]"), Some(4242));
        for link in ["/dev/null", "pipe:[7]", "socket:[]", "socket:[x]"] {
            assert_eq!(inode(link), None, "{link}");
        }
    }
}
