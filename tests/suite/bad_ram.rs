//! RAM that holds no kernel which is understood: each kind has a line of its own, soon, and looking
//! makes no file bigger.

use crate::common::{Ran, built, vmfi};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;
use vmfi::lab::{Initramfs, LabGuest, Setup};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;

/// A RAM file of 8 GiB that holds these bytes at these offsets, and holes.
struct Ram {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Ram {
    fn new(pieces: &[(u64, &[u8])]) -> Self {
        // In memory, where holes are pages.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = folder.path().join("ram");
        let file = File::create(&path).unwrap();
        file.set_len(8192 * MIB).unwrap();
        pieces.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).unwrap());
        Self { _folder: folder, path }
    }

    fn list(&self) -> Ran {
        let blocks = || fs::metadata(&self.path).unwrap().blocks();
        let before = blocks();
        let ran = vmfi(["-m", self.path.to_str().unwrap(), "list"]);
        assert_eq!(blocks(), before, "looking made the RAM file bigger");
        ran
    }

    fn fails(&self, code: i32, words: &[&str]) {
        let ran = self.list();
        let line = ran.fails_with(code);
        words.iter().for_each(|word| assert!(line.contains(word), "'{word}' is not in: {line}"));
    }
}

/// Bytes without a pattern, the same each time.
fn random(length: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length / 8).flat_map(|_| word()).collect()
}

#[test]
fn what_is_no_ram_is_named() {
    let vmfi_itself = fs::read(env!("CARGO_BIN_EXE_vmfi")).unwrap();
    let kernel = fs::read(built("kernels/bookworm/vmlinuz")).unwrap();
    let mut disk = vec![0; 512];
    disk[450] = 0x83;
    disk[510..].copy_from_slice(b"\x55\xaa");
    let text = "ffffffff81000000 T _text\n".repeat(1000);
    let kinds: [(&[u8], &str); 6] = [
        (&vmfi_itself[..1 << 20], "ELF"),
        (&kernel, "a kernel image"),
        (&disk, "a disk image"),
        (b"QFI\xfb\0\0\0\x03", "qcow2"),
        (text.as_bytes(), "a text file"),
        (b"\x1f\x8b\x08\0", "gzip"),
    ];
    for (bytes, kind) in kinds {
        Ram::new(&[(0, bytes)]).fails(3, &["not guest RAM", kind, "give -m"]);
    }
    // Less than a page too.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short");
    fs::write(&path, "short\n".repeat(20)).unwrap();
    let ran = vmfi(["-m", path.to_str().unwrap(), "list"]);
    assert!(ran.fails_with(3).contains("a text file"), "{}", ran.stderr);
    // What tells nothing of itself is too small.
    for bytes in [&b"hello, \xff\n"[..], &[0; 10_000]] {
        fs::write(&path, bytes).unwrap();
        let ran = vmfi(["-m", path.to_str().unwrap(), "list"]);
        assert!(ran.fails_with(3).contains("no guest can run in"), "{}", ran.stderr);
    }
}

#[test]
fn nothing_but_zeros() {
    let words = ["no Linux kernel", "zeros", "booting"];
    Ram::new(&[]).fails(4, &words);
    Ram::new(&[(0, &vec![0; 16 << 20])]).fails(4, &words);
}

/// Ciphertext, with what the guest shares with its host as it is.
#[test]
fn an_encrypted_guest() {
    let (cipher, shared) = (random(64 * MIB), b"shared with the host ".repeat(200_000));
    let words = ["looks encrypted", "SEV", "no guest RAM"];
    Ram::new(&[(0, &cipher), (4096 * MIB, &cipher)]).fails(3, &words);
    Ram::new(&[(MIB, &cipher), (100 * MIB, &shared)]).fails(3, &words);
    // Firmware that can be read is not encrypted, whatever else the guest keeps in its RAM.
    let ran = Ram::new(&[(0xf_0000, b"SeaBIOS (version 1.16)"), (MIB, &cipher)]).list();
    assert!(ran.fails_with(4).contains("SeaBIOS"), "{}", ran.stderr);
}

/// What is known of Windows' RAM from outside; its own cannot be had here.
#[test]
fn a_windows_guest() {
    let mut kernel = vec![0; PAGE as usize];
    kernel[..2].copy_from_slice(b"MZ");
    kernel[0x3c] = 0xf8;
    kernel[0xf8..0xfe].copy_from_slice(b"PE\0\0\x64\x86");
    Ram::new(&[(0x20_0000, &kernel), (0, &[1])]).fails(4, &["no Linux kernel"]);
    kernel[0x300..0x308].copy_from_slice(b"INITKDBG");
    let words = ["looks like a Windows guest", "Linux guests only"];
    Ram::new(&[(0x20_0000, &kernel), (0, &[1])]).fails(4, &words);

    // What starts its processors, and page tables that map its entry, 0xfffff80000000000.
    let mut stub = vec![0; PAGE as usize];
    stub[..8].copy_from_slice(&0x0000_0001_0006_00e9u64.to_le_bytes());
    stub[0x70..0x78].copy_from_slice(&0xffff_f800_0000_0000u64.to_le_bytes());
    stub[0xa0..0xa8].copy_from_slice(&0x1a_d000u64.to_le_bytes());
    let entry = |to: u64| (to | 0x63).to_le_bytes();
    let tables = [(0x1a_d000 + 8 * 496, entry(0x1a_e000)), (0x1a_e000, entry(0x4000_0000 | 0x80))];
    let root: Vec<_> = tables.iter().map(|(at, entry)| (*at, &entry[..])).collect();
    let whole = [&[(0x1_3000, &stub[..])], &root[..]].concat();
    Ram::new(&whole).fails(4, &words);
    // A stub alone, as an earlier guest may have left it, is none.
    let ran = Ram::new(&whole[..2]).list();
    assert!(!ran.fails_with(4).contains("Windows"), "{}", ran.stderr);
}

/// A VMCOREINFO note of a kernel whose text is at `text`.
fn note(release: &str, text: &str) -> Vec<u8> {
    let text = format!("OSRELEASE={release}\nSYMBOL(_stext)={text}\n");
    let header = [11u32, text.len() as u32, 0].map(u32::to_le_bytes).concat();
    [&header[..], b"VMCOREINFO\0\0", text.as_bytes()].concat()
}

fn banner(release: &str) -> Vec<u8> {
    format!("Linux version {release} (a@b) (gcc) #1 SMP\n").into_bytes()
}

#[test]
fn a_32_bit_guest() {
    let words = ["a 32-bit Linux kernel (Linux version 6.1.0-pae", "64-bit"];
    let (small, own) = (banner("6.1.0-pae"), note("6.1.0-pae", "c1000000"));
    Ram::new(&[(0x120_0040, &small), (0x200_0000, &own)]).fails(4, &words);
    Ram::new(&[(0x120_0040, &banner("6.1.0-50-686-pae"))]).fails(4, &["a 32-bit Linux kernel"]);
    // An earlier guest's is not taken for that of one which does not tell its symbols.
    let pieces = [(0x120_0040, &small[..]), (0x200_0000, &own), (0x300_0040, &banner("6.2.0"))];
    Ram::new(&pieces).fails(4, &["Linux version 6.2.0", "--system-map"]);
    let arm = [(0x120_0040, &small[..]), (0x200_0000, &note("6.1.0-pae", "ffff800080010000"))];
    Ram::new(&arm).fails(4, &["another architecture"]);
}

#[test]
fn a_guest_in_its_boot_loader() {
    let words = |who: &'static str| ["no Linux kernel", who, "still booting"];
    let bios = (0xf_5a38, &b"SeaBIOS (version 1.16.2)"[..]);
    Ram::new(&[bios]).fails(4, &words("SeaBIOS"));
    Ram::new(&[bios, (0x7d80, b"GRUB \0Geom\0Hard Disk")]).fails(4, &words("GRUB"));
    Ram::new(&[bios, (0x1_0202, b"HdrS")]).fails(4, &words("being loaded"));
    Ram::new(&[(0x82_0028, b"_FVH")]).fails(4, &words("UEFI"));
    let mut vectors = [0x53, 0xff, 0x00, 0xf0].repeat(256);
    vectors.extend([0; 0x13]);
    vectors.extend(639u16.to_le_bytes());
    Ram::new(&[(0, &vectors)]).fails(4, &words("BIOS"));
}

struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A VM that has nothing to boot stays in its firmware.
#[test]
fn a_live_guest_in_its_firmware() {
    let ram = Ram::new(&[]);
    File::options().write(true).open(&ram.path).unwrap().set_len(256 * MIB).unwrap();
    let file =
        format!("memory-backend-file,id=ram,size=256M,mem-path={},share=on", ram.path.display());
    let machine = Command::new("qemu-system-x86_64")
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-m", "256M"])
        .args(["-machine", "q35,memory-backend=ram", "-object", &file])
        .spawn();
    let _machine = Machine(machine.unwrap());
    let mut lines = (0..600).map(|_| {
        sleep(Duration::from_millis(50));
        let ran = vmfi(["-m", ram.path.to_str().unwrap(), "list"]);
        ran.fails_with(4).to_owned()
    });
    assert!(lines.any(|line| line.contains("the firmware SeaBIOS") && line.contains("booting")));
    // It is shown as far as it is.
    let probe = vmfi(["-m", ram.path.to_str().unwrap(), "probe", "--json"]);
    probe.fails_with(4);
    let shown: serde_json::Value = serde_json::from_str(&probe.stdout).unwrap();
    assert_eq!(shown["ram_bytes"], 256 * MIB);
    assert_eq!(
        (&shown["steps"][0]["found"], &shown["steps"][1]["found"]),
        (&true.into(), &false.into())
    );
    assert_eq!(shown["steps"][2]["found"], serde_json::Value::Null);
    assert_eq!(shown["steps"][1]["next"], "try again when the guest has booted");
}

/// From its start on a guest is told to be booting, until it is understood.
#[test]
fn a_live_guest_that_boots() {
    let setup = Setup::new(&built("kernels/bookworm/vmlinuz"));
    let guest = LabGuest::start(&setup, &Initramfs::with_busybox().unwrap()).unwrap();
    let ram = guest.ram();
    let mut lines = Vec::new();
    for _ in 0..3000 {
        let ran = vmfi(["-m", ram.to_str().unwrap(), "list", "--all"]);
        // Its kernel is understood before it has started the first process.
        if matches!(ran.code, 0 | 5) {
            break;
        }
        // Before QEMU has made the file, it cannot be opened.
        assert!(ran.code == 4 || !lines.iter().any(|(code, _)| *code == 4), "{}", ran.stderr);
        lines.push((ran.code, ran.fails_with(ran.code).to_owned()));
        sleep(Duration::from_millis(10));
    }
    lines.dedup();
    let told = |words: &str| lines.iter().any(|(_, line)| line.contains(words));
    assert!(told("still booting"), "{lines:#?}");
    assert!(told("being loaded") || told("SeaBIOS"), "{lines:#?}");
    assert!(!told("encrypted") && !told("Windows") && !told("not guest RAM but"), "{lines:#?}");
}
