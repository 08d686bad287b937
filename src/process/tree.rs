//! Who descends from whom, and which processes are wrappers.

use super::{ProcessError, Task};
use crate::kernel::sanitized;
use std::collections::{HashMap, HashSet};

/// The processes of a guest at one moment, by parent.
pub struct ProcessTree {
    tasks: Vec<Task>,
    children: HashMap<i32, Vec<usize>>,
}

impl ProcessTree {
    /// Orders `tasks` by parent.
    pub fn new(tasks: Vec<Task>) -> Self {
        let mut children: HashMap<i32, Vec<usize>> = HashMap::new();
        for (index, task) in tasks.iter().enumerate() {
            children.entry(task.parent).or_default().push(index);
        }
        Self { tasks, children }
    }

    /// Every process.
    pub fn all(&self) -> &[Task] {
        &self.tasks
    }

    /// The process `pid`.
    pub fn process(&self, pid: i32) -> Result<&Task, ProcessError> {
        let found = self.tasks.iter().find(|task| task.pid == pid);
        found.ok_or(ProcessError::NoProcess(pid))
    }

    /// The processes called `name` that run a program: a zombie launches nothing any more.
    pub fn wrappers(&self, name: &str) -> impl Iterator<Item = &Task> {
        let name = comm(name);
        self.tasks.iter().filter(move |task| task.comm == name && task.mm.is_some())
    }

    /// All that descend from `pid`, parents before their children.
    pub fn descendants(&self, pid: i32) -> Vec<&Task> {
        // The tree is the guest's word: a damaged one may have rings.
        let mut seen = HashSet::from([pid]);
        let mut found: Vec<&Task> = Vec::new();
        let mut parents = vec![pid];
        while let Some(parent) = parents.pop() {
            for &index in self.children.get(&parent).map_or(&[][..], Vec::as_slice) {
                let task = &self.tasks[index];
                if seen.insert(task.pid) {
                    found.push(task);
                    parents.push(task.pid);
                }
            }
        }
        found
    }

    /// The victim of the wrapper `pid`, called `name`: its only descendant that lives, or the one
    /// of id `child`.
    pub fn victim(&self, pid: i32, name: &str, child: Option<i32>) -> Result<&Task, ProcessError> {
        let wrapper = self.process(pid)?;
        if wrapper.comm != comm(name) {
            let (comm, wanted) = (wrapper.comm.clone(), comm(name));
            return Err(ProcessError::NotAWrapper { pid, comm, wanted });
        }
        let descendants = self.descendants(pid);
        if let Some(child) = child {
            let chosen = descendants.into_iter().find(|task| task.pid == child);
            return chosen.ok_or(ProcessError::NotItsChild { pid, child });
        }
        let mut living = descendants.into_iter().filter(|task| task.mm.is_some());
        match (living.next(), living.next()) {
            (None, _) => Err(ProcessError::NoChild(pid)),
            (Some(only), None) => Ok(only),
            (Some(first), Some(second)) => {
                let all = [first, second].into_iter().chain(living);
                let children = all.map(|task| (task.pid, task.comm.clone())).collect();
                Err(ProcessError::SeveralChildren { pid, children })
            }
        }
    }
}

/// A program's name as the kernel keeps it, at most 15 bytes, and as [`Task::comm`] shows it.
fn comm(name: &str) -> String {
    const LONGEST: usize = 15;
    sanitized(&name.as_bytes()[..name.len().min(LONGEST)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Gva;
    use crate::process::State;

    fn task(pid: i32, parent: i32, comm: &str) -> Task {
        Task {
            at: Gva(0x1000 * pid as u64),
            pid,
            parent,
            comm: comm.to_owned(),
            state: State::new(0, 0),
            start_time: pid as u64,
            mm: Some(Gva(0x100_0000 * pid as u64)),
        }
    }

    fn tree(tasks: &[(i32, i32, &str)]) -> ProcessTree {
        ProcessTree::new(tasks.iter().map(|&(pid, parent, comm)| task(pid, parent, comm)).collect())
    }

    #[test]
    fn the_victim_is_the_only_descendant() {
        let tree = tree(&[(1, 0, "init"), (5, 1, "wrapper"), (6, 5, "hpccg"), (7, 1, "sh")]);
        assert_eq!(tree.victim(5, "wrapper", None).unwrap().pid, 6);
        assert!(matches!(tree.victim(1, "wrapper", None), Err(ProcessError::NotAWrapper { .. })));
        assert!(matches!(tree.victim(9, "wrapper", None), Err(ProcessError::NoProcess(9))));
        assert!(matches!(
            tree.victim(5, "wrapper", Some(7)),
            Err(ProcessError::NotItsChild { .. })
        ));
    }

    #[test]
    fn several_descendants_ask_for_a_choice() {
        let tree = tree(&[(5, 1, "wrapper"), (6, 5, "mpirun"), (7, 6, "rank"), (8, 6, "rank")]);
        let error = tree.victim(5, "wrapper", None).unwrap_err().to_string();
        assert!(error.contains("6 (mpirun), 7 (rank), 8 (rank)"), "{error}");
        assert!(error.contains("--child"), "{error}");
        assert_eq!(tree.victim(5, "wrapper", Some(8)).unwrap().pid, 8);
    }

    #[test]
    fn a_zombie_is_no_victim() {
        let mut tasks = vec![task(5, 1, "wrapper"), task(6, 5, "hpccg")];
        tasks[1].mm = None;
        let tree = ProcessTree::new(tasks);
        assert!(matches!(tree.victim(5, "wrapper", None), Err(ProcessError::NoChild(5))));
    }

    #[test]
    fn rings_of_parents_end() {
        let tree = tree(&[(5, 6, "wrapper"), (6, 5, "a"), (7, 7, "b")]);
        assert_eq!(tree.descendants(5).len(), 1);
        assert_eq!(tree.descendants(7).len(), 0);
    }

    #[test]
    fn names_are_compared_as_the_kernel_keeps_them() {
        let tree = tree(&[(5, 1, "a-rather-long-n")]);
        assert_eq!(tree.wrappers("a-rather-long-name").count(), 1);
    }
}
