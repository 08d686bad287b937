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

    /// The processes called `name` that run a program: a zombie launches nothing any more. Nor does
    /// the copy that a wrapper is between fork and exec.
    pub fn wrappers(&self, name: &str) -> impl Iterator<Item = &Task> {
        let name = comm(name);
        let wrapper = move |task: &Task| task.comm == name && task.mm.is_some();
        let copy = {
            let wrapper = wrapper.clone();
            move |task: &Task| {
                !self.has_children(task.pid) && self.process(task.parent).is_ok_and(&wrapper)
            }
        };
        self.tasks.iter().filter(move |task| wrapper(task) && !copy(task))
    }

    /// Whether it has started a process that is still there.
    pub fn has_children(&self, pid: i32) -> bool {
        self.children.get(&pid).is_some_and(|children| !children.is_empty())
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

    /// The process `pid`, which must be called `name` as wrappers are.
    pub fn wrapper(&self, pid: i32, name: &str) -> Result<&Task, ProcessError> {
        let wrapper = self.process(pid)?;
        if wrapper.comm != comm(name) {
            let (comm, wanted) = (wrapper.comm.clone(), comm(name));
            return Err(ProcessError::NotAWrapper { pid, comm, wanted });
        }
        Ok(wrapper)
    }

    /// The process `child`, which must descend from `pid`.
    pub fn descendant(&self, pid: i32, child: i32) -> Result<&Task, ProcessError> {
        let found = self.descendants(pid).into_iter().find(|task| task.pid == child);
        found.ok_or(ProcessError::NotItsChild { pid, child })
    }

    /// Those that descend from `pid` and run a program; there must be one.
    pub fn living_descendants(&self, pid: i32) -> Result<Vec<Task>, ProcessError> {
        let all = self.descendants(pid).into_iter();
        let living: Vec<_> = all.filter(|task| task.mm.is_some()).cloned().collect();
        if living.is_empty() { Err(ProcessError::NoChild(pid)) } else { Ok(living) }
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
            execs: 0,
            mm: Some(Gva(0x100_0000 * pid as u64)),
        }
    }

    fn tree(tasks: &[(i32, i32, &str)]) -> ProcessTree {
        ProcessTree::new(tasks.iter().map(|&(pid, parent, comm)| task(pid, parent, comm)).collect())
    }

    #[test]
    fn wrappers_are_told_by_their_name() {
        let tree = tree(&[(1, 0, "init"), (5, 1, "wrapper"), (6, 5, "hpccg")]);
        assert_eq!(tree.wrapper(5, "wrapper").unwrap().pid, 5);
        assert!(matches!(tree.wrapper(1, "wrapper"), Err(ProcessError::NotAWrapper { .. })));
        assert!(matches!(tree.wrapper(9, "wrapper"), Err(ProcessError::NoProcess(9))));
    }

    #[test]
    fn a_wrappers_copy_is_none_until_it_starts_something() {
        let mut tasks = vec![task(5, 1, "wrapper"), task(6, 5, "wrapper")];
        let wrappers =
            |tasks: &[Task]| ProcessTree::new(tasks.to_vec()).wrappers("wrapper").count();
        assert_eq!(wrappers(&tasks), 1);
        tasks.push(task(7, 6, "hpccg"));
        assert_eq!(wrappers(&tasks), 2);
    }

    #[test]
    fn descendants_are_found_at_any_depth() {
        let tree = tree(&[
            (5, 1, "wrapper"),
            (6, 5, "mpirun"),
            (7, 6, "rank"),
            (8, 6, "rank"),
            (9, 1, "sh"),
        ]);
        let pids: Vec<_> =
            tree.living_descendants(5).unwrap().iter().map(|task| task.pid).collect();
        assert_eq!(pids, [6, 7, 8]);
        assert_eq!(tree.descendant(5, 8).unwrap().pid, 8);
        assert!(matches!(tree.descendant(5, 9), Err(ProcessError::NotItsChild { .. })));
    }

    #[test]
    fn a_zombie_is_no_victim() {
        let mut tasks = vec![task(5, 1, "wrapper"), task(6, 5, "hpccg")];
        tasks[1].mm = None;
        let tree = ProcessTree::new(tasks);
        assert!(matches!(tree.living_descendants(5), Err(ProcessError::NoChild(5))));
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
