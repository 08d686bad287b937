//! `vmfi gate`, live: a wrapper is told what to do, and tells what its program did, through guest
//! memory alone.

use crate::common::{Live, kernels};
use serde_json::Value;
use std::time::{Duration, Instant};
use vmfi::lab::Setup;

const LIMIT: Duration = Duration::from_secs(30);

/// What the wrapper `pid` tells once it is in this `state`.
fn told(live: &Live, pid: &str, state: &str) -> Value {
    let begun = Instant::now();
    loop {
        let told = live.with_memory_alone(&["gate", pid, "--json"]).json();
        if told["state"] == state {
            return told;
        }
        assert!(begun.elapsed() < LIMIT, "{told} instead of '{state}'");
    }
}

#[test]
fn a_gate_is_opened_and_the_end_is_told() {
    let mut live = Live::unknown(&Setup::new(&kernels()[0]));
    let start = "/wrapper --gate --hold-exit sh -c 'echo out; echo err >&2; exit 3' >/out 2>&1 & \
                 until grep -q wrapper: /out 2>/dev/null; do sleep 0.1; done; \
                 sed -n 's/^wrapper: pid //p' /out";
    let pid = live.guest.run(start).unwrap().concat();
    let at_the_gate = told(&live, &pid, "at the gate");
    assert_eq!((&at_the_gate["child"], &at_the_gate["exit_status"]), (&Value::Null, &Value::Null));
    let opened = live.with_memory_alone(&["gate", &pid, "--open"]);
    assert_eq!(opened.code, 0, "{}", opened.stderr);
    let held = told(&live, &pid, "held at its end");
    assert_eq!(held["exit_status"], 3);
    assert!(live.with_memory_alone(&["gate", &pid, "--let-go"]).code == 0);
    let ended = told(&live, &pid, "ended");
    assert_eq!((&ended["exit_status"], &ended["signal"]), (&3.into(), &Value::Null));
    assert_eq!(
        (&ended["stdout"]["text"], &ended["stdout"]["cut"]),
        (&"out\n".into(), &false.into())
    );
    assert_eq!(ended["stderr"]["text"], "err\n");
    assert!(ended["run_time_ns"].as_u64().unwrap() > 0 && ended["cpu_time_ns"].as_u64() > Some(0));
    assert!(live.with_memory_alone(&["gate", &pid, "--acknowledge"]).code == 0);
    live.guest.run(&format!("while [ -e /proc/{pid} ]; do sleep 0.1; done")).unwrap();
    let gone = live.with_memory_alone(&["gate", &pid]);
    assert!(gone.fails_with(5).contains("no process"), "{}", gone.stderr);
}
