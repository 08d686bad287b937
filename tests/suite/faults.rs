//! Every fault model, in victims that hold still: what is in the guest then is what the model says,
//! computed here anew from what was there before.

use crate::common::{Live, built, files, kernels, number};
use serde_json::Value;
use vmfi::lab::Setup;

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn word(hex: &Value) -> u64 {
    let bytes = bytes(hex);
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// A victim, and the wrapper that it runs under.
struct Holding {
    live: Live,
    wrapper: String,
    child: i64,
}

impl Holding {
    fn start(mut live: Live, program: &str) -> Self {
        let (pid, child) = live.start(program);
        live.guest.run("until grep -q ^ready /out; do sleep 0.1; done").unwrap();
        Self { live, wrapper: pid.to_string(), child }
    }

    /// Injects as these words say: the bytes before and after, of which the guest must have what the
    /// receipt tells, at that instant and from then on.
    fn inject(&mut self, words: &str) -> (u64, u64, Value) {
        let words: Vec<_> = words.split(' ').collect();
        let all = [&["inject", &self.wrapper][..], &words, &["--json"]].concat();
        let receipt = self.live.with_memory_alone(&all).json();
        let size = receipt["size"].as_u64().unwrap();
        let there = self.live.guest_reads(self.child, number(&receipt["gva"]), size);
        assert_eq!(
            (&receipt["after"], &receipt["read_back"]),
            (&there.clone().into(), &there.into())
        );
        (word(&receipt["before"]), word(&receipt["after"]), receipt)
    }

    /// Exit code 2, one line with `part`, whatever else was asked for.
    fn refuses(&self, words: &str, part: &str) {
        let words: Vec<_> = words.split(' ').collect();
        let all = [&["inject", &self.wrapper][..], &words, &["--force"]].concat();
        let ran = self.live.with_memory_alone(&all);
        let line = ran.fails_with(2);
        assert!(line.contains(part), "'{part}' is not in: {line}");
    }
}

fn boot() -> Live {
    let mut files = files();
    files.copy(&built("fixtures/typed/typed-5"), "/typed").unwrap();
    Live::booted(&Setup::new(&kernels()[0]), &files)
}

#[test]
fn each_model_does_what_it_says() {
    let mut victim = Holding::start(boot(), "/holder");
    bits_are_flipped(&mut victim);
    what_is_given_is_there(&mut victim);
    what_is_drawn_is_within_its_bounds(&mut victim);
    a_seed_has_the_same_faults(&mut victim);
    what_makes_no_sense_is_refused(&victim);
    let end = format!("kill {}; sleep 0.2", victim.child);
    victim.live.guest.run(&end).unwrap();
    fields_of_a_float(&mut Holding::start(victim.live, "/typed"));
}

fn bits_are_flipped(victim: &mut Holding) {
    for count in [1, 3, 64] {
        let (before, after, receipt) = victim.inject(&format!("value --flip {count}"));
        assert_eq!((before ^ after).count_ones(), count, "{receipt}");
        assert_eq!(
            (&receipt["fault"], &receipt["size"]),
            (&format!("flip {count}").into(), &8.into())
        );
        assert!(receipt["seed"].is_u64(), "{receipt}");
    }
    let (before, after, receipt) = victim.inject("value --flip-bits 3,17");
    assert_eq!(before ^ after, 1 << 3 | 1 << 17);
    assert!(receipt["seed"].is_null(), "nothing was drawn: {receipt}");
    for _ in 0..5 {
        let (before, after, receipt) = victim.inject("value --burst 4");
        let flipped = before ^ after;
        assert_eq!(flipped >> flipped.trailing_zeros(), 0xf, "{receipt}");
    }
    let (before, after, _) = victim.inject("value --xor 0x8000000000000001");
    assert_eq!(before ^ after, 1 << 63 | 1);
    let (before, after, receipt) = victim.inject("value --flip 2 --bytes 2");
    assert_eq!(((before ^ after).count_ones(), &receipt["size"]), (2, &2.into()));
}

fn what_is_given_is_there(victim: &mut Holding) {
    let own = "value 0x123456789abcdef0";
    assert_eq!(victim.inject(own).1, 0x1234_5678_9abc_def0);
    assert_eq!(victim.inject("value --and 0xffffffff00000000").1, 0x1234_5678_0000_0000);
    assert_eq!(victim.inject("value --or 0x80").1, 0x1234_5678_0000_0080);
    assert_eq!(victim.inject("value --ones").1, u64::MAX);
    assert_eq!(victim.inject("value --zero").1, 0);
    victim.inject(own);
    let (_, after, receipt) = victim.inject("value --ones --bytes 3");
    assert_eq!((after, &receipt["before"]), (0xff_ffff, &"f0debc".into()));
    assert_eq!(victim.inject("value --xor 0").0, 0x1234_5678_9aff_ffff, "only three bytes changed");
    let (_, after, receipt) = victim.inject("value --inf --type f32");
    assert_eq!((f32::from_bits(after as u32), &receipt["size"]), (f32::INFINITY, &4.into()));
    assert!(f64::from_bits(victim.inject("value --nan --type f64").1).is_nan());
    assert_eq!(victim.inject("value -3 --type i16").2["after"], "fdff");
}

fn what_is_drawn_is_within_its_bounds(victim: &mut Holding) {
    for _ in 0..5 {
        let (_, after, receipt) = victim.inject("value --random 1..100 --bytes 4");
        assert!((1..=100).contains(&after), "{receipt}");
        assert_eq!(receipt["size"], 4);
    }
    assert_eq!(victim.inject("value --random -2..-2 --type i64").1, -2i64 as u64);
    let (before, after, receipt) = victim.inject("value --random-bytes");
    // Of 64 random bits, between 8 and 56 differ but once in 10^9.
    assert!((8..=56).contains(&(before ^ after).count_ones()), "{receipt}");
}

fn a_seed_has_the_same_faults(victim: &mut Holding) {
    for model in ["--flip 3", "--burst 5", "--random-bytes", "--random 0..0xffffffffffff"] {
        let words = format!("value --seed 4711 {model}");
        victim.inject("value 0");
        let first = victim.inject(&words);
        victim.inject("value 0");
        let second = victim.inject(&words);
        assert_eq!((first.1, &second.2["seed"]), (second.1, &4711.into()), "{model}");
    }
    // A seed that was drawn is as good as one that was given.
    victim.inject("value 0");
    let (_, after, receipt) = victim.inject("value --flip 5");
    victim.inject("value 0");
    assert_eq!(victim.inject(&format!("value --flip 5 --seed {}", receipt["seed"])).1, after);
}

fn fields_of_a_float(victim: &mut Holding) {
    let fields = [
        ("sign", 1, 1 << 63),
        ("exponent", 1, 0x7ff << 52),
        ("mantissa", 1, (1 << 52) - 1),
        ("exponent:11", 11, 0x7ff << 52),
        ("mantissa:7", 7, (1 << 52) - 1),
    ];
    for (field, count, bits) in fields {
        let (before, after, receipt) = victim.inject(&format!("scalar --field {field}"));
        let flipped = before ^ after;
        assert_eq!((flipped.count_ones(), flipped & !bits), (count, 0u64), "{field}: {receipt}");
    }
    assert_eq!(f64::from_bits(victim.inject("scalar 1.5").1), 1.5);
    assert_eq!(
        f64::from_bits(victim.inject("scalar --random 3..3").1),
        3.0,
        "a number of its type"
    );
    assert_eq!(f64::from_bits(victim.inject("scalar --inf").1), f64::INFINITY);
    assert!(f64::from_bits(victim.inject("scalar --nan").1).is_nan());
    let (before, after, receipt) = victim.inject("cfg.corners[0].y --field sign");
    assert_eq!((before ^ after, &receipt["size"]), (1 << 31, &4.into()));
    victim.refuses("cfg.dims[1] --nan", "i32");
    victim.refuses("cfg.dims[1] --field sign", "i32");
    victim.refuses("cfg.dims[1] --random 0..0x80000000", "does not fit i32");
}

/// With the guest halted, so that RAM shows whatever is written.
fn what_makes_no_sense_is_refused(victim: &Holding) {
    victim.live.guest.halt(true).unwrap();
    let before = victim.live.ram();
    let refused = [
        ("value --flip 65", "64"),
        ("value --burst 65", "64"),
        ("value --flip 0", "--flip"),
        ("value --flip-bits 3,3", "twice"),
        ("value --flip-bits 64", "no bit 64"),
        ("value --field exponent", "f64"),
        ("value --nan", "float"),
        ("value --inf --bytes 8", "--type"),
        ("value --nan --type i32", "i32"),
        ("value --random 2..1", "above"),
        ("value --random 0..256 --bytes 1", "does not fit"),
        ("value --and 0x100 --bytes 1", "does not fit"),
        ("value --flip 1 --zero", "cannot be used with"),
        ("value 6 --flip 1", "give no VALUE"),
        ("value --zero --bytes 0", "bytes"),
        ("value 6 4 0 --bytes 4", "not both"),
        ("value 6 4 --type f64", "--type"),
        ("value 6 4 0 --seed 1", "--seed"),
        ("value --flip-bits 1 --seed 1", "--seed"),
        ("value --zero --rate 5", "--hold"),
        ("value --zero --every 0s", "no interval"),
        ("value --zero --every 1s --at-random 0s..1s", "cannot be used with"),
        ("value --zero --when 6", "names no variable"),
        ("value --zero --when value=6", "'=='"),
        ("value --zero --hold 1s --dry-run", "--dry-run"),
    ];
    for (words, part) in refused {
        victim.refuses(words, part);
    }
    assert!(before == victim.live.ram(), "a refusal wrote something");
    victim.live.guest.halt(false).unwrap();
}
