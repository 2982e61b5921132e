//! NUMA nodes, as sysfs tells of them.

use super::thread_settings::Nodes;
use super::{Sysfs, attribute};

/// The nodes that are online, rising. A kernel without NUMA has node 0.
#[must_use]
pub fn online(sysfs: &Sysfs) -> Vec<u32> {
    let list = attribute(&sysfs.sys.join("devices/system/node/online"));
    let nodes = list.and_then(|list| parse_list(&list)).unwrap_or_default();
    if nodes.is_empty() { vec![0] } else { nodes }
}

/// What a choice of nodes stands for.
///
/// # Errors
/// If one is not there: a sentence.
pub fn chosen(sysfs: &Sysfs, nodes: &Nodes) -> Result<Vec<u32>, String> {
    let there = online(sysfs);
    let Nodes::These(nodes) = nodes else { return Ok(there) };
    match nodes.iter().find(|node| !there.contains(node)) {
        Some(missing) => Err(format!("there is no NUMA node {missing} (there are {there:?})")),
        None => Ok(nodes.clone()),
    }
}

/// The CPUs of `nodes`, rising.
///
/// # Errors
/// If a node is not there, or none of them has a CPU: a sentence.
pub fn cpus(sysfs: &Sysfs, nodes: &Nodes, usable: &[u32]) -> Result<Vec<u32>, String> {
    let mut cpus = Vec::new();
    for node in chosen(sysfs, nodes)? {
        let path = sysfs.sys.join(format!("devices/system/node/node{node}/cpulist"));
        match attribute(&path).and_then(|list| parse_list(&list)) {
            Some(list) => cpus.extend(list),
            // A node of memory alone, or a kernel without NUMA, whose only node has all.
            None if path.exists() => {}
            None => cpus.extend_from_slice(usable),
        }
    }
    cpus.retain(|cpu| usable.contains(cpu));
    cpus.sort_unstable();
    cpus.dedup();
    if cpus.is_empty() {
        return Err("these NUMA nodes have no CPU that this process may use".to_owned());
    }
    Ok(cpus)
}

/// Reads the kernel's lists of numbers (`0-3,8`).
#[must_use]
pub fn parse_list(text: &str) -> Option<Vec<u32>> {
    const MOST: u32 = 1 << 16;
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lists_of_the_kernel_are_read() {
        assert_eq!(parse_list("0-2,7\n"), Some(vec![0, 1, 2, 7]));
        assert_eq!(parse_list(""), Some(vec![]));
        assert!(
            parse_list("3-1").is_none() && parse_list("x").is_none() && parse_list("0-4000000000").is_none()
        );
    }

    #[test]
    fn the_cpus_of_nodes_are_those_that_may_be_used() {
        let root = tempfile::tempdir().unwrap();
        let nodes = root.path().join("sys/devices/system/node");
        for (node, list) in [("node0", "0-3"), ("node1", "4-7"), ("node2", "")] {
            fs::create_dir_all(nodes.join(node)).unwrap();
            fs::write(nodes.join(node).join("cpulist"), list).unwrap();
        }
        fs::write(nodes.join("online"), "0-2\n").unwrap();
        let sysfs = Sysfs::under(root.path());
        let usable = [1, 2, 5, 6];
        let cpus = |nodes: &[u32]| cpus(&sysfs, &Nodes::These(nodes.to_vec()), &usable);
        assert_eq!(cpus(&[1]), Ok(vec![5, 6]));
        assert_eq!(cpus(&[0, 1]), Ok(usable.to_vec()));
        assert!(cpus(&[2]).unwrap_err().contains("no CPU"));
        assert!(cpus(&[3]).unwrap_err().contains("no NUMA node 3"));
        assert_eq!(super::cpus(&sysfs, &Nodes::All, &usable), Ok(usable.to_vec()));
        let none = Sysfs::under(&root.path().join("nothing"));
        assert_eq!(super::cpus(&none, &Nodes::These(vec![0]), &usable), Ok(usable.to_vec()));
    }
}
