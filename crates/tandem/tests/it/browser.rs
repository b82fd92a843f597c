//! A real browser without a window: Chromium, told what to do by the DevTools protocol.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

/// Only ends a hang.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Browser {
    process: Child,
    socket: WebSocket<TcpStream>,
    /// Of the one page.
    session: String,
    asked: u64,
    _profile: TempDir,
}

impl Browser {
    /// Starts it with an empty page; `None` where there is none, which in CI is a failure.
    pub(crate) fn start() -> Option<Self> {
        let Some(program) = find() else {
            assert!(std::env::var_os("CI").is_none(), "CI has no Chromium");
            eprintln!("Left out: this machine has no Chromium.");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let process = Command::new(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required"])
            .args(["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"])
            .args(["--remote-debugging-port=0", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let socket = connect(&profile);
        let mut browser = Self { process, socket, session: String::new(), asked: 0, _profile: profile };
        let page = browser.ask("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let attached = browser.ask("Target.attachToTarget", &attach);
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        browser.ask("Page.enable", &json!({}));
        Some(browser)
    }

    /// Goes there and waits until it is loaded.
    pub(crate) fn open(&mut self, url: &str) {
        let gone = self.ask("Page.navigate", &json!({"url": url}));
        assert!(gone["errorText"].is_null(), "{url}: {gone}");
        self.wait_for(&format!("location.href == {url:?} && document.readyState == 'complete'"));
    }

    /// Loads the page anew, as a person would who presses F5.
    pub(crate) fn reload(&mut self) {
        self.run("window.before = true");
        self.ask("Page.reload", &json!({}));
        self.wait_for("window.before === undefined && document.readyState == 'complete'");
    }

    /// What a script of the page comes to, when it is done.
    pub(crate) fn run(&mut self, script: &str) -> Value {
        let ask = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let answer = self.ask("Runtime.evaluate", &ask);
        assert!(answer["exceptionDetails"].is_null(), "{answer}");
        answer["result"]["value"].clone()
    }

    fn wait_for(&mut self, condition: &str) {
        let until = Instant::now() + PATIENCE;
        let ask = json!({"expression": condition, "returnByValue": true});
        // Between two pages there is none that could answer.
        while self.ask_loosely("Runtime.evaluate", &ask)["result"]["result"]["value"] != true {
            assert!(Instant::now() < until, "never: {condition}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        let answer = self.ask_loosely(method, parameters);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    fn ask_loosely(&mut self, method: &str, parameters: &Value) -> Value {
        self.asked += 1;
        let mut ask = json!({"id": self.asked, "method": method, "params": parameters});
        if !self.session.is_empty() {
            ask["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(ask.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().expect("the browser answers") else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.asked {
                return answer;
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its own processes end with it. Fails only when it has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn find() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&folders)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file())
}

/// It writes where it listens into its profile.
fn connect(profile: &TempDir) -> WebSocket<TcpStream> {
    let until = Instant::now() + PATIENCE;
    let (port, path) = loop {
        let told = std::fs::read_to_string(profile.path().join("DevToolsActivePort")).unwrap_or_default();
        if let Some((port, path)) = told.split_once('\n')
            && let Ok(port) = port.parse::<u16>()
        {
            break (port, path.trim().to_owned());
        }
        assert!(Instant::now() < until, "the browser does not start");
        std::thread::sleep(Duration::from_millis(20));
    };
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream).unwrap().0
}
