//! A headless Chromium, driven through a pipe: the browser reads commands of the DevTools protocol from its
//! descriptor 3 and answers on 4, each message with a zero behind.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// What it does besides is nobody's business here.
const FLAGS: [&str; 10] = [
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser with one page open.
pub struct Browser {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// The number of the last command.
    last: u64,
    /// The page's, once it is there.
    session: Option<String>,
    /// What it has told without being asked since the last visit.
    events: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    /// One whose window is so wide and high.
    pub fn open(width: u32, height: u32) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec chromium \"$@\" 3<&0 4>&1 >/dev/null 2>&1", "chromium"]);
        shell.args(FLAGS).arg(format!("--user-data-dir={}", profile.path().display()));
        let mut process = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (commands, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut this = Self {
            process,
            commands,
            answers: BufReader::new(answers),
            last: 0,
            session: None,
            events: Vec::new(),
            _profile: profile,
        };
        let page = this.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": page["targetId"], "flatten": true});
        let attached = this.call("Target.attachToTarget", target);
        this.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            this.call(&format!("{domain}.enable"), json!({}));
        }
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        this.call("Emulation.setDeviceMetricsOverride", size);
        this
    }

    /// Shows pages as on this medium, and to people who prefer this colour scheme.
    pub fn prefer(&mut self, media: &str, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"media": media, "features": features}));
    }

    /// Opens the file at `path`, `fragment` behind it, and waits until it is there.
    pub fn visit(&mut self, path: &Path, fragment: &str) {
        // Else only the fragment would change, and nothing be loaded.
        self.load("about:blank");
        self.load(&format!("file://{}{fragment}", path.display()));
    }

    fn load(&mut self, url: &str) {
        self.events.clear();
        self.call("Page.navigate", json!({"url": url}));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.message();
            self.events.push(event);
        }
    }

    /// What `script` comes to in the page.
    pub fn eval(&mut self, script: &str) -> Value {
        let of = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let mut told = self.call("Runtime.evaluate", of);
        assert!(told["exceptionDetails"].is_null(), "{script}: {told}");
        told["result"]["value"].take()
    }

    /// Types `text` where the page has its cursor.
    pub fn type_in(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// What was told under the name `method` since the last visit.
    pub fn told(&self, method: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["method"] == method).collect()
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut command = json!({"id": self.last, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).unwrap();
        self.commands.flush().unwrap();
        loop {
            let mut message = self.message();
            if message["id"] != self.last {
                self.events.push(message);
                continue;
            }
            assert!(message["error"].is_null(), "{method}: {message}");
            return message["result"].take();
        }
    }

    fn message(&mut self) -> Value {
        let mut message = Vec::new();
        self.answers.read_until(0, &mut message).unwrap();
        assert_eq!(message.pop(), Some(0), "the browser has ended: is chromium installed?");
        serde_json::from_slice(&message).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
