//! What QEMU was told about RAM: its command line, in both forms that options may have, `key=value`
//! and JSON (qemu(1); `util/keyval.c` and `util/qemu-option.c` for the commas).

use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, HashMap};

/// QEMU's own default.
const DEFAULT_RAM: u64 = 128 << 20;
const MIB_SHIFT: u32 = 20;
/// QEMU's own limits (`MAX_NODES`, `ACPI_MAX_RAM_SLOTS`): it runs with no more.
const MOST_NODES: usize = 128;
const MOST_DIMMS: usize = 256;
/// Monitors that are looked at; real ones have one or two.
const MOST_MONITORS: usize = 16;

/// The options that matter here, and the key that a first word without one means.
const OPTIONS: [(&str, &str); 9] = [
    ("name", "guest"),
    ("m", "size"),
    ("machine", "type"),
    ("M", "type"),
    ("object", "qom-type"),
    ("numa", "type"),
    ("device", "driver"),
    ("chardev", "backend"),
    ("mon", "chardev"),
];
const QMP: [&str; 2] = ["qmp", "qmp-pretty"];

type Values = BTreeMap<String, String>;

/// The options of a QEMU that matter here.
#[derive(Clone, Debug, Default)]
pub struct CommandLine {
    /// Each option with its values, in their order. Names that mean the same are one.
    options: Vec<(&'static str, Values)>,
    /// The first object of each id, as its place in `options`.
    objects: HashMap<String, usize>,
    /// What `-qmp` says.
    qmp: Vec<String>,
}

/// Memory that was asked for by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Bytes.
    pub size: u64,
    /// What it is to be.
    pub kind: BackendKind,
}

/// What memory was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// This file, or one in this folder.
    File(String),
    /// A file without a name.
    Memfd,
    /// QEMU's own.
    Ram,
}

/// A memory device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimm {
    /// Where the guest has it, where that was said.
    pub address: Option<u64>,
    /// What it is.
    pub backend: Backend,
}

impl CommandLine {
    /// Of the words of a command line, the program's own name first.
    pub fn parse(words: &[String]) -> Self {
        let mut line = Self::default();
        let mut words = words.iter().skip(1);
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix('-') else { continue };
            let name = name.strip_prefix('-').unwrap_or(name);
            if let Some((name, implied)) = OPTIONS.iter().find(|(known, _)| *known == name) {
                let name = if *name == "M" { "machine" } else { name };
                line.options.extend(words.next().map(|text| (name, values(text, implied))));
                line.note_object();
            } else if QMP.contains(&name) {
                line.qmp.extend(words.next().cloned());
            }
        }
        line
    }

    /// Makes the last option findable by its id, if it is an object.
    fn note_object(&mut self) {
        if let Some(("object", values)) = self.options.last()
            && let Some(id) = values.get("id")
        {
            self.objects.entry(id.clone()).or_insert(self.options.len() - 1);
        }
    }

    fn all<'l>(&'l self, name: &'l str) -> impl DoubleEndedIterator<Item = &'l Values> {
        self.options.iter().filter(move |(option, _)| *option == name).map(|(_, values)| values)
    }

    /// What an option says that may be given bit by bit: the last word counts.
    fn last<'l>(&'l self, option: &'l str, key: &str) -> Option<&'l str> {
        self.all(option).rev().find_map(|values| values.get(key)).map(String::as_str)
    }

    /// What the VM is to be called.
    pub fn name(&self) -> Option<&str> {
        self.last("name", "guest")
    }

    /// The machine's type.
    pub fn machine(&self) -> Option<&str> {
        self.last("machine", "type")
    }

    /// How much RAM may lie below 4 GiB.
    pub fn max_below_4g(&self) -> Option<u64> {
        self.last("machine", "max-ram-below-4g").and_then(|text| size(text, 0))
    }

    /// Bytes of RAM, without memory devices.
    pub fn ram(&self) -> u64 {
        let told = self.last("m", "size").and_then(|text| size(text, MIB_SHIFT));
        told.filter(|bytes| *bytes > 0)
            .or(self.named().map(|named| named.size))
            .unwrap_or(DEFAULT_RAM)
    }

    /// The backend that is all RAM.
    fn named(&self) -> Option<Backend> {
        self.backend(self.last("machine", "memory-backend")?)
    }

    /// What RAM consists of, in the order of its parts: a backend for each NUMA node, else one.
    pub fn backends(&self) -> Vec<Backend> {
        let nodes = self.all("numa").filter(|values| is(values, "type", "node")).take(MOST_NODES);
        let mut nodes: Vec<_> = nodes
            .enumerate()
            .filter_map(|(index, values)| {
                let number = values.get("nodeid").and_then(|text| text.parse().ok());
                Some((number.unwrap_or(index), self.backend(values.get("memdev")?)?))
            })
            .collect();
        nodes.sort_by_key(|(number, _)| *number);
        let nodes: Vec<_> = nodes.into_iter().map(|(_, backend)| backend).collect();
        let only = || self.named().unwrap_or(Backend { size: self.ram(), kind: BackendKind::Ram });
        if nodes.is_empty() { vec![only()] } else { nodes }
    }

    /// The memory devices, in their order.
    pub fn dimms(&self) -> Vec<Dimm> {
        let dimms =
            self.all("device").filter(|values| is(values, "driver", "pc-dimm")).take(MOST_DIMMS);
        let dimm = |values: &Values| {
            let address = values.get("addr").and_then(|text| size(text, 0));
            Some(Dimm { address, backend: self.backend(values.get("memdev")?)? })
        };
        dimms.filter_map(dimm).collect()
    }

    fn backend(&self, id: &str) -> Option<Backend> {
        let (_, values) = &self.options[*self.objects.get(id)?];
        let size = values.get("size").and_then(|text| size(text, 0))?;
        let kind = match values.get("qom-type")?.as_str() {
            "memory-backend-file" => BackendKind::File(values.get("mem-path")?.clone()),
            "memory-backend-memfd" => BackendKind::Memfd,
            "memory-backend-ram" => BackendKind::Ram,
            _ => return None,
        };
        Some(Backend { size, kind })
    }

    /// The socket that QEMU was told to answer QMP at. One that it was handed already open has no
    /// name here.
    pub fn socket(&self) -> Option<String> {
        let direct = self.qmp.iter().filter_map(|text| {
            let values = values(text.strip_prefix("unix:")?, "path");
            serves(&values).then(|| values.get("path").cloned()).flatten()
        });
        let monitors = self.all("mon").filter(|values| is(values, "mode", "control"));
        let named = self.qmp.iter().filter_map(|text| text.strip_prefix("chardev:"));
        let ids = monitors.filter_map(|values| values.get("chardev")).map(String::as_str);
        direct.chain(ids.chain(named).take(MOST_MONITORS).filter_map(|id| self.chardev(id))).next()
    }

    fn chardev(&self, id: &str) -> Option<String> {
        let values = self.all("chardev").find(|values| is(values, "id", id))?;
        let socket = is(values, "backend", "socket") && serves(values);
        socket.then(|| values.get("path").cloned()).flatten()
    }
}

fn is(values: &Values, key: &str, value: &str) -> bool {
    values.get(key).is_some_and(|found| found == value)
}

/// Whether QEMU waits for clients, as `server=on`, or `server` alone in older ones.
fn serves(values: &Values) -> bool {
    values.get("server").is_some_and(|value| value != "off" && value != "no")
}

/// The values of an option; a first word without a key is that of `implied`.
fn values(text: &str, implied: &str) -> Values {
    if text.starts_with('{') {
        let parsed = serde_json::from_str::<BTreeMap<String, Plain>>(text).unwrap_or_default();
        return parsed.into_iter().filter_map(|(key, value)| Some((key, value.text()?))).collect();
    }
    let words = split(text).into_iter().enumerate();
    let pair = |(index, word): (usize, String)| match word.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None if index == 0 => (implied.to_owned(), word),
        None => (word, "on".to_owned()),
    };
    words.map(pair).collect()
}

/// A value in JSON. Of one that consists of others nothing is kept.
#[derive(Deserialize)]
#[serde(untagged)]
enum Plain {
    Text(String),
    Number(serde_json::Number),
    Switch(bool),
    Other(IgnoredAny),
}

impl Plain {
    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(number) => Some(number.to_string()),
            Self::Switch(on) => Some(if on { "on" } else { "off" }.to_owned()),
            Self::Other(_) => None,
        }
    }
}

/// The words between single commas; a double one is a comma in a word.
fn split(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == ',' && letters.next_if_eq(&',').is_none() {
            words.push(String::new());
        } else if let Some(word) = words.last_mut() {
            word.push(letter);
        }
    }
    words
}

/// A size as QEMU takes it: 0x..., digits with a fraction and a unit; without one, it is shifted by
/// `plain` bits.
fn size(text: &str, plain: u32) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok();
    }
    const UNITS: [(char, u32); 7] =
        [('B', 0), ('K', 10), ('M', 20), ('G', 30), ('T', 40), ('P', 50), ('E', 60)];
    let unit = text.chars().last()?.to_ascii_uppercase();
    let unit = UNITS.iter().find(|(letter, _)| *letter == unit);
    let digits = if unit.is_some() { &text[..text.len() - 1] } else { text };
    let shift = unit.map_or(plain, |(_, shift)| *shift);
    match digits.parse::<u64>() {
        Ok(count) => count.checked_mul(1 << shift),
        // As QEMU itself: a fraction is a double.
        Err(_) => {
            let count = digits.parse::<f64>().ok()?;
            let bytes = count * (1u64 << shift) as f64;
            (0.0..u64::MAX as f64).contains(&bytes).then_some(bytes as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> CommandLine {
        let words = line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        CommandLine::parse(&words)
    }

    const FILE: &str = "/dev/shm/a,b";

    #[test]
    fn both_forms_say_the_same() {
        let values = "qemu -M pc-q35-7.2,memory-backend=m -m 2048 -name guest=one,debug-threads=on \
             -object memory-backend-file,id=m,size=2G,mem-path=/dev/shm/a,,b,share=on";
        let json = "qemu -machine pc-q35-7.2 -machine memory-backend=m -m size=2097152k \
             --name one -object {\"qom-type\":\"memory-backend-file\",\"id\":\"m\",\
             \"size\":2147483648,\"mem-path\":\"/dev/shm/a,b\",\"share\":true}";
        for line in [values, json].map(parse) {
            assert_eq!((line.machine(), line.name()), (Some("pc-q35-7.2"), Some("one")));
            assert_eq!(line.ram(), 2 << 30);
            let kind = BackendKind::File(FILE.to_owned());
            assert_eq!(line.backends(), [Backend { size: 2 << 30, kind }]);
            assert!(line.dimms().is_empty() && line.socket().is_none());
        }
    }

    #[test]
    fn nothing_said_is_the_default() {
        let line = parse("qemu -S -nodefaults disk");
        assert_eq!((line.machine(), line.ram(), line.max_below_4g()), (None, 128 << 20, None));
        assert_eq!(line.backends(), [Backend { size: 128 << 20, kind: BackendKind::Ram }]);
        let line = parse("qemu -machine q35,max-ram-below-4g=1G -m 1.5G,slots=2,maxmem=4G");
        assert_eq!((line.ram(), line.max_below_4g()), (3 << 29, Some(1 << 30)));
    }

    #[test]
    fn nodes_and_dimms() {
        let line = parse(
            "qemu -m 512M,slots=2,maxmem=2G -object memory-backend-ram,id=d,size=256M \
             -device pc-dimm,memdev=d,addr=0x180000000 -object memory-backend-memfd,id=a,size=128M \
             -object memory-backend-ram,id=b,size=384M -numa node,nodeid=1,memdev=b \
             -numa node,nodeid=0,memdev=a -numa dist,src=0,dst=1,val=20",
        );
        let (memfd, ram) = (BackendKind::Memfd, BackendKind::Ram);
        let nodes = [(128, memfd), (384, ram.clone())];
        assert_eq!(line.backends(), nodes.map(|(mib, kind)| Backend { size: mib << 20, kind }));
        let backend = Backend { size: 256 << 20, kind: ram };
        assert_eq!(line.dimms(), [Dimm { address: Some(0x1_8000_0000), backend }]);
    }

    #[test]
    fn however_much_is_said_it_takes_no_time() {
        let object = |id: usize| format!("-object memory-backend-ram,id=m{id},size=2M");
        let node = |id: usize| format!("-numa node,memdev=m{}", 20_000 - id);
        let all = (0..=20_000).map(object).chain((0..20_000).map(node)).collect::<Vec<_>>();
        let line = parse(&format!("qemu {}", all.join(" ")));
        let started = std::time::Instant::now();
        assert_eq!(line.backends().len(), MOST_NODES);
        assert!(started.elapsed() < std::time::Duration::from_secs(1));
        let deep = format!("{{\"id\":\"m\",\"x\":{}", "[".repeat(100_000));
        assert!(values(&deep, "qom-type").is_empty());
        let more = "{\"id\":\"m\",\"x\":[[1],{}],\"on\":null}";
        assert_eq!(values(more, "").into_keys().collect::<Vec<_>>(), ["id"]);
    }

    #[test]
    fn sockets() {
        for line in [
            "qemu -qmp unix:/s,server=on,wait=off",
            "qemu -qmp unix:/s,server,nowait",
            "qemu -chardev socket,id=c,path=/s,server=on,wait=off -mon chardev=c,mode=control",
            "qemu -chardev socket,id=c,path=/s,server -mon c,mode=control",
            "qemu -chardev socket,id=c,path=/s,server=on -qmp chardev:c",
        ] {
            assert_eq!(parse(line).socket().as_deref(), Some("/s"), "{line}");
        }
        for line in [
            "qemu -qmp stdio",
            "qemu -qmp unix:/s",
            "qemu -monitor unix:/s,server=on",
            "qemu -chardev socket,id=c,fd=22,server=on -mon chardev=c,mode=control",
            "qemu -chardev socket,id=c,path=/s,server=on -mon chardev=c",
            "qemu -qmp",
        ] {
            assert_eq!(parse(line).socket(), None, "{line}");
        }
    }

    #[test]
    fn sizes() {
        let cases =
            [("512", 512 << 20), ("0x10", 16), ("2g", 2 << 30), ("4096B", 4096), ("1.5K", 1536)];
        for (text, bytes) in cases {
            assert_eq!(size(text, MIB_SHIFT), Some(bytes), "{text}");
        }
        for bad in ["", "G", "-1G", "99999999999E", "1é", "nan"] {
            assert_eq!(size(bad, 0), None, "{bad}");
        }
    }
}
