//! Where the members lie that vmfi reads, asked of a [`TypeSource`] by name.
//!
//! Where the kernel has renamed or replaced a member, each name is tried; the kernel's version
//! is never looked at.

use super::KernelError;
use crate::arch::x86_64;
use crate::types::{self, Member, Profile, Recorder, TypeSource, TypesError, WHOLE};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// TASK_COMM_LEN is 16. What types say comes from guest RAM: a larger one is not believed.
const LONGEST_COMM: u64 = 16;
/// What a CPU calls itself has 48 letters, for which the kernel keeps 64 bytes.
const LONGEST_CPU_MODEL: u64 = 64;
/// Nodes of a maple tree have at most 15 pivots.
const MOST_PIVOTS: u64 = 15;

/// Every layout that is used, in bytes from the start of each structure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layouts {
    /// Where they come from.
    pub from: String,
    /// The banner of the kernel that they are of, where their source tells it.
    pub kernel: Option<String>,
    /// `struct task_struct`.
    pub task: TaskLayout,
    /// `struct mm_struct`.
    pub mm: MmLayout,
    /// `struct vm_area_struct`.
    pub vma: VmaLayout,
    /// `struct file`.
    pub file: FileLayout,
    /// `struct dentry`.
    pub dentry: DentryLayout,
    /// `struct mount`.
    pub mount: MountLayout,
    /// `struct resource`.
    pub resource: ResourceLayout,
    /// What tells how long a tick is; none where the source does not.
    pub clock: Option<ClockLayout>,
    /// The page cache; none where the kernel keeps it otherwise than known.
    pub page_cache: Option<PageCacheLayout>,
    /// What tells whose a page is; none where the source does not.
    pub page: Option<PageLayout>,
    /// What /proc/PID/maps shows beside the mappings themselves.
    pub shown: ShownLayout,
    /// Where the kernel has the name of its CPU's model, in [`x86_64::BOOT_CPU`]; none where the
    /// source does not tell.
    pub cpu_model: Option<Member>,
}

/// What /proc/PID/maps shows of a mapping beside its place; each part none where the layouts do
/// not tell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShownLayout {
    /// Which mappings are heap and stack.
    pub heap: Option<HeapLayout>,
    /// Device and number of a mapped file.
    pub inode: Option<InodeLayout>,
    /// The kernel's own mappings, such as the vdso.
    pub special: Option<SpecialLayout>,
    /// `dentry.d_hash.pprev`: null once the file was removed.
    pub hashed: Option<u64>,
}

/// Where heap and stack are, in `struct mm_struct`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeapLayout {
    /// `start_brk`, where the heap starts.
    pub start: u64,
    /// `brk`, where it ends.
    pub end: u64,
    /// `start_stack`, an address in the stack.
    pub stack: u64,
}

/// A file on its file system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InodeLayout {
    /// `file.f_inode`; before 3.9 `dentry.d_inode` (commit dd37978c50bc).
    pub of_file: Option<u64>,
    /// `dentry.d_inode`.
    pub of_dentry: u64,
    /// `inode.i_ino`.
    pub number: u64,
    /// `inode.i_sb`.
    pub file_system: u64,
    /// `super_block.s_dev`.
    pub device: u64,
}

/// `struct vm_special_mapping`, since 3.16 (commit a62c34bd2a8a).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SpecialLayout {
    /// `vm_area_struct.vm_ops`.
    pub operations: u64,
    /// `vm_area_struct.vm_private_data`.
    pub data: u64,
    /// `vm_special_mapping.name`.
    pub name: u64,
}

/// `struct clocksource`: that of ticks has a fixed rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClockLayout {
    /// What a count is multiplied with.
    pub mult: u64,
    /// How far the product is shifted right then, to be ns.
    pub shift: u64,
}

/// How the page cache is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PageCacheLayout {
    /// `file.f_mapping`.
    pub mapping: u64,
    /// `file.f_inode`.
    pub inode: u64,
    /// `inode.i_size`, in bytes.
    pub size: u64,
    /// `address_space.i_pages.xa_head`.
    pub root: u64,
    /// `xa_node.shift`.
    pub node_shift: u64,
    /// `xa_node.slots`.
    pub node_slots: u64,
    /// Bytes of `struct page`.
    pub page_size: u64,
    /// The number in its file of a folio's first page.
    pub page_index: u64,
    /// What tells that a page is not being read in; none where the layouts do not tell.
    pub uptodate: Option<FlagLayout>,
}

/// A flag of `struct page`, whose numbers move from kernel to kernel.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct FlagLayout {
    /// `page.flags`.
    pub flags: u64,
    /// The bit there.
    pub mask: u64,
}

/// `struct page`, of which there is one for each page of RAM.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PageLayout {
    /// Bytes of it.
    pub size: u64,
    /// `flags`.
    pub flags: u64,
    /// `mapping`: whose it is, and in its lowest bits what kind of owner that is.
    pub mapping: u64,
    /// `compound_head`, or `compound_info`: of which larger page it is a part.
    pub head: u64,
    /// `_mapcount`: how often it is mapped, less one; of a page of its own.
    pub mapcount: u64,
    /// `_refcount`: 0 where nobody has it.
    pub refcount: u64,
    /// The bit that the first of the pages has of which a larger one is made.
    pub is_head: u64,
    /// The bit that says that swap has a copy, which others may mean.
    pub in_swap_cache: u64,
}

/// `struct task_struct`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskLayout {
    /// The ring of thread-group leaders.
    pub tasks: u64,
    /// Thread id.
    pub pid: u64,
    /// Process id.
    pub tgid: u64,
    /// The task's name.
    pub comm: u64,
    /// Bytes of the name.
    pub comm_size: u64,
    /// Its memory; null for kernel threads and zombies.
    pub mm: u64,
    /// The task that forked it, or that took it over.
    pub real_parent: u64,
    /// When it started: in ns, or up to 3.16 a `struct timespec` (commit ccbf62d8a284).
    pub start_time: Member,
    /// How often it has called exec, 32 bits at least; none where the source does not tell.
    pub execs: Option<u64>,
    /// `__state`; `state` before 5.14 (commit 2f064a59a11f).
    pub state: u64,
    /// Set once it has ended.
    pub exit_state: u64,
    /// Its threads.
    pub threads: ThreadsLayout,
    /// How long its threads ran; none where the source does not tell.
    pub cpu_time: Option<CpuTimeLayout>,
}

/// How long the threads of a process ran, in ns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CpuTimeLayout {
    /// `task_struct.se.sum_exec_runtime`, of a thread.
    pub of_thread: u64,
    /// `task_struct.signal`, which the threads of a process share.
    pub signal: u64,
    /// `signal_struct.sum_sched_runtime`, of those that have ended.
    pub of_ended: u64,
}

/// How the threads of a process are linked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ThreadsLayout {
    /// A list whose head is in `struct signal_struct`, from 3.14 on (commit 0c740d0afc3b).
    Listed {
        /// `task_struct.signal`.
        signal: u64,
        /// `signal_struct.thread_head`.
        head: u64,
        /// `task_struct.thread_node`.
        node: u64,
    },
    /// A ring through all of them, before.
    Ring {
        /// `task_struct.thread_group`.
        group: u64,
    },
}

/// `struct mm_struct`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MmLayout {
    /// The page-table root, as a kernel address.
    pub pgd: u64,
    /// The `struct file` of the program.
    pub exe_file: u64,
    /// Where the memory map is kept.
    pub maps: MapsLayout,
}

/// How a memory map is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MapsLayout {
    /// A list, up to 6.0.
    List {
        /// `mm_struct.mmap`, the first.
        first: u64,
        /// `vm_area_struct.vm_next`.
        next: u64,
    },
    /// A maple tree, from 6.1 on (commit 524e00b36e8c).
    Tree {
        /// `mm_struct.mm_mt.ma_root`.
        root: u64,
        /// The nodes.
        nodes: MapleLayout,
    },
}

/// `struct maple_node`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MapleLayout {
    /// `struct maple_range_64`, leaves and inner nodes.
    pub range: NodeLayout,
    /// `struct maple_arange_64`, inner nodes that know their gaps.
    pub arange: NodeLayout,
}

/// One kind of maple tree node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeLayout {
    /// The array of pivots.
    pub pivots: u64,
    /// How many there are.
    pub pivot_count: u64,
    /// The array of slots: one more than pivots.
    pub slots: u64,
}

/// `struct vm_area_struct`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VmaLayout {
    /// First address.
    pub start: u64,
    /// First address past it.
    pub end: u64,
    /// `VM_READ` and the like.
    pub flags: u64,
    /// Offset in the file, in pages.
    pub page_offset: u64,
    /// The `struct file` mapped, or null.
    pub file: u64,
}

/// `struct file`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileLayout {
    /// `f_path.dentry`.
    pub dentry: u64,
    /// `f_path.mnt`.
    pub mount: u64,
}

/// `struct dentry`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DentryLayout {
    /// `d_name.name`.
    pub name: u64,
    /// `d_parent`; the root of a file system is its own.
    pub parent: u64,
}

/// `struct mount` and the `struct vfsmount` within it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountLayout {
    /// The `struct vfsmount`, to which files point.
    pub vfsmount: u64,
    /// The mount that this one is mounted on; its own at the top.
    pub parent: u64,
    /// The dentry there.
    pub mountpoint: u64,
    /// The dentry that is this mount's root, from the start of `struct vfsmount`.
    pub root: u64,
}

/// `struct resource`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResourceLayout {
    /// First address.
    pub start: u64,
    /// Last address.
    pub end: u64,
    /// Its name.
    pub name: u64,
    /// The next beside it.
    pub sibling: u64,
    /// The first within it.
    pub child: u64,
}

impl Layouts {
    /// Those that the file at `path` tells: a vmlinux, BTF, or a profile.
    pub fn read(path: &Path) -> Result<Self, KernelError> {
        let (types, from) = (types::open(path)?, path.display().to_string());
        let layouts = Self::from_types(types.as_ref(), &from);
        layouts.map_err(|source| KernelError::Types { from, source })
    }

    /// What of `types` is asked for here: all that a guest needs.
    pub fn profile(types: &dyn TypeSource) -> Result<Profile, TypesError> {
        let recorder = Recorder::new(types);
        Self::from_types(&recorder, "")?;
        Ok(recorder.profile())
    }

    /// Asks `types`, which come from `from`, for every member.
    pub fn from_types(types: &dyn TypeSource, from: &str) -> Result<Self, TypesError> {
        let at = |structure, path| types.member(structure, path).map(|member| member.offset);
        Ok(Self {
            from: from.to_owned(),
            kernel: types.kernel().map(str::to_owned),
            task: task(types)?,
            mm: mm(types)?,
            vma: VmaLayout {
                start: at("vm_area_struct", "vm_start")?,
                end: at("vm_area_struct", "vm_end")?,
                flags: at("vm_area_struct", "vm_flags")?,
                page_offset: at("vm_area_struct", "vm_pgoff")?,
                file: at("vm_area_struct", "vm_file")?,
            },
            file: FileLayout {
                dentry: at("file", "f_path.dentry")?,
                mount: at("file", "f_path.mnt")?,
            },
            dentry: DentryLayout {
                name: at("dentry", "d_name.name")?,
                parent: at("dentry", "d_parent")?,
            },
            mount: mount(types)?,
            resource: ResourceLayout {
                start: at("resource", "start")?,
                end: at("resource", "end")?,
                name: at("resource", "name")?,
                sibling: at("resource", "sibling")?,
                child: at("resource", "child")?,
            },
            clock: clock(types).ok(),
            page_cache: page_cache(types).ok(),
            page: page(types).ok(),
            shown: ShownLayout {
                heap: heap(types).ok(),
                inode: inode(types).ok(),
                special: special(types).ok(),
                hashed: at("dentry", "d_hash.pprev").ok(),
            },
            cpu_model: cpu_model(types).ok(),
        })
    }
}

fn heap(types: &dyn TypeSource) -> Result<HeapLayout, TypesError> {
    let at = |path| types.member("mm_struct", path).map(|member| member.offset);
    Ok(HeapLayout { start: at("start_brk")?, end: at("brk")?, stack: at("start_stack")? })
}

fn inode(types: &dyn TypeSource) -> Result<InodeLayout, TypesError> {
    let at = |structure, path| types.member(structure, path).map(|member| member.offset);
    Ok(InodeLayout {
        number: at("inode", "i_ino")?,
        file_system: at("inode", "i_sb")?,
        device: at("super_block", "s_dev")?,
        of_dentry: at("dentry", "d_inode")?,
        of_file: at("file", "f_inode").ok(),
    })
}

fn special(types: &dyn TypeSource) -> Result<SpecialLayout, TypesError> {
    let at = |structure, path| types.member(structure, path).map(|member| member.offset);
    Ok(SpecialLayout {
        name: at("vm_special_mapping", "name")?,
        operations: at("vm_area_struct", "vm_ops")?,
        data: at("vm_area_struct", "vm_private_data")?,
    })
}

fn task(types: &dyn TypeSource) -> Result<TaskLayout, TypesError> {
    let at = |path| types.member("task_struct", path).map(|member| member.offset);
    let comm = types.member("task_struct", "comm")?;
    Ok(TaskLayout {
        tasks: at("tasks")?,
        pid: at("pid")?,
        tgid: at("tgid")?,
        comm: comm.offset,
        comm_size: comm.size.min(LONGEST_COMM),
        mm: at("mm")?,
        real_parent: at("real_parent")?,
        start_time: types.member("task_struct", "start_time")?,
        execs: at("self_exec_id").ok(),
        state: either(at("__state"), || at("state"))?,
        exit_state: at("exit_state")?,
        threads: threads(types)?,
        cpu_time: cpu_time(types).ok(),
    })
}

fn cpu_time(types: &dyn TypeSource) -> Result<CpuTimeLayout, TypesError> {
    let at = |structure, path| types.member(structure, path).map(|member| member.offset);
    Ok(CpuTimeLayout {
        of_thread: at("task_struct", "se.sum_exec_runtime")?,
        signal: at("task_struct", "signal")?,
        of_ended: at("signal_struct", "sum_sched_runtime")?,
    })
}

fn threads(types: &dyn TypeSource) -> Result<ThreadsLayout, TypesError> {
    let at = |structure, path| types.member(structure, path).map(|member| member.offset);
    let listed = at("task_struct", "thread_node").and_then(|node| {
        let (signal, head) = (at("task_struct", "signal")?, at("signal_struct", "thread_head")?);
        Ok(ThreadsLayout::Listed { signal, head, node })
    });
    either(listed, || Ok(ThreadsLayout::Ring { group: at("task_struct", "thread_group")? }))
}

/// The newer form of a layout, or the older one. Where there is neither, the newer is what lacks.
fn either<T>(
    newer: Result<T, TypesError>,
    older: impl FnOnce() -> Result<T, TypesError>,
) -> Result<T, TypesError> {
    newer.or_else(|missing| older().map_err(|_| missing))
}

/// Up to 3.2 there was no `struct mount`: `struct vfsmount` held all (commit 7d6fec45a513).
fn mount(types: &dyn TypeSource) -> Result<MountLayout, TypesError> {
    let at = |structure, path| types.member(structure, path).map(|member| member.offset);
    let within = |outer, vfsmount| {
        Ok(MountLayout {
            vfsmount,
            parent: at(outer, "mnt_parent")?,
            mountpoint: at(outer, "mnt_mountpoint")?,
            root: at("vfsmount", "mnt_root")?,
        })
    };
    either(at("mount", "mnt").and_then(|mnt| within("mount", mnt)), || within("vfsmount", 0))
}

fn cpu_model(types: &dyn TypeSource) -> Result<Member, TypesError> {
    let (structure, path) = x86_64::CPU_MODEL;
    let Member { offset, size } = types.member(structure, path)?;
    Ok(Member { offset, size: size.min(LONGEST_CPU_MODEL) })
}

fn clock(types: &dyn TypeSource) -> Result<ClockLayout, TypesError> {
    let at = |path| types.member("clocksource", path).map(|member| member.offset);
    Ok(ClockLayout { mult: at("mult")?, shift: at("shift")? })
}

fn page_cache(types: &dyn TypeSource) -> Result<PageCacheLayout, TypesError> {
    let at = |structure, path| types.member(structure, path).map(|member| member.offset);
    Ok(PageCacheLayout {
        mapping: at("file", "f_mapping")?,
        inode: at("file", "f_inode")?,
        size: at("inode", "i_size")?,
        root: at("address_space", "i_pages.xa_head")?,
        node_shift: at("xa_node", "shift")?,
        node_slots: at("xa_node", "slots")?,
        page_size: types.member("page", WHOLE)?.size.max(1),
        // Folios since 5.16 (commit 7b230db3b8d3).
        page_index: either(at("folio", "index"), || at("page", "index"))?,
        uptodate: page_flag(types, "PG_uptodate").ok(),
    })
}

fn page(types: &dyn TypeSource) -> Result<PageLayout, TypesError> {
    let at = |path| types.member("page", path).map(|member| member.offset);
    Ok(PageLayout {
        size: types.member("page", WHOLE)?.size.max(1),
        flags: at("flags")?,
        mapping: at("mapping")?,
        // A mask instead of a pointer in 7.x.
        head: either(at("compound_info"), || at("compound_head"))?,
        mapcount: at("_mapcount")?,
        refcount: at("_refcount")?,
        is_head: page_flag(types, "PG_head")?.mask,
        in_swap_cache: page_flag(types, "PG_swapcache")?.mask,
    })
}

fn page_flag(types: &dyn TypeSource, name: &str) -> Result<FlagLayout, TypesError> {
    let flags = types.member("page", "flags")?.offset;
    let missing =
        || TypesError::NoMember { structure: "pageflags".to_owned(), member: name.to_owned() };
    let bit = u32::try_from(types.enumerator("pageflags", name)?).ok();
    let mask = bit.and_then(|bit| 1u64.checked_shl(bit)).ok_or_else(missing)?;
    Ok(FlagLayout { flags, mask })
}

fn mm(types: &dyn TypeSource) -> Result<MmLayout, TypesError> {
    let at = |path| types.member("mm_struct", path).map(|member| member.offset);
    Ok(MmLayout { pgd: at("pgd")?, exe_file: at("exe_file")?, maps: maps(types)? })
}

fn maps(types: &dyn TypeSource) -> Result<MapsLayout, TypesError> {
    let tree = types.member("mm_struct", "mm_mt.ma_root").and_then(|root| {
        let (range, arange) = (node(types, "maple_range_64")?, node(types, "maple_arange_64")?);
        Ok(MapsLayout::Tree { root: root.offset, nodes: MapleLayout { range, arange } })
    });
    either(tree, || {
        Ok(MapsLayout::List {
            first: types.member("mm_struct", "mmap")?.offset,
            next: types.member("vm_area_struct", "vm_next")?.offset,
        })
    })
}

fn node(types: &dyn TypeSource, structure: &str) -> Result<NodeLayout, TypesError> {
    let pivots = types.member(structure, "pivot")?;
    let slots = types.member(structure, "slot")?;
    let pivot_count = (pivots.size / 8).min(MOST_PIVOTS);
    Ok(NodeLayout { pivots: pivots.offset, pivot_count, slots: slots.offset })
}
