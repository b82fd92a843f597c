//! Chromium as TURN client: a page that calls itself through the relay, over UDP and over TCP, with sound and messages
//! both ways. In a network of its own, so that nothing but the relay is there and nothing goes elsewhere.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tandem_proto::grant::GrantTerms;
use tandem_proto::ids::{CallTag, DeviceKey};
use tandem_relay::config::Config;
use tandem_relay::credentials::Credentials;
use tandem_relay::driver::{DriverConfig, Handle, start};
use tandem_relay::server::DropReason;

use crate::bench::{RELAY, relay_secret};
use crate::namespace::{IPV4, in_own_network, left_out};
use crate::wire::{now, wait_until};

const CHROMIUM: &str = "chromium";
const PAGE: &str = include_str!("chromium.html");
const MESSAGES: u64 = 100;
const MESSAGE_BYTES: u64 = 200;
const SOUND_PACKETS: u64 = 100;
/// For the page; the test gives it a little more to tell.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn chromium_calls_over_udp() {
    in_own_network(|| a_page_calls_itself("udp"));
}

#[test]
fn chromium_calls_over_tcp() {
    in_own_network(|| a_page_calls_itself("tcp"));
}

fn a_page_calls_itself(transport: &str) {
    if Command::new(CHROMIUM).arg("--version").output().is_err() {
        return left_out("Debian's package chromium is missing");
    }
    let relay = start_relay();
    let report = report_of(&settings(&relay, transport));
    assert_eq!(report["messages"], json!([MESSAGES, MESSAGES]), "{report:#}");
    for end in report["ends"].as_array().unwrap() {
        assert_eq!((&end["local"], &end["remote"]), (&json!("relay"), &json!("relay")), "{report:#}");
        assert_eq!(end["relayProtocol"], transport, "{report:#}");
        assert_eq!(end["localTypes"], json!(["relay"]), "{report:#}");
        assert!(end["localAddress"].as_str().unwrap().starts_with("198.1"), "a virtual address: {report:#}");
        for count in ["bytesSent", "bytesReceived"] {
            let least = MESSAGES * MESSAGE_BYTES + SOUND_PACKETS * 20;
            assert!(end[count].as_u64().unwrap() >= least, "{report:#}");
        }
    }
    println!("{transport}: {}", report["ends"]);
    wait_until("the end of both allocations", || relay.stats().server.allocations == 0);
    let stats = relay.stats();
    assert_eq!(stats.server.calls_made, 1, "{stats:?}");
    assert!(stats.server.bytes_forwarded >= 2 * MESSAGES * MESSAGE_BYTES, "{stats:?}");
    // The end that hangs up last may still send to the other one.
    for reason in [DropReason::Malformed, DropReason::Rate, DropReason::Quota] {
        assert_eq!(stats.server.dropped_for(reason), 0, "{stats:?}");
    }
}

/// With grants as a supernode gives them.
fn start_relay() -> Handle {
    let any = vec![SocketAddr::new(IPV4, 0)];
    let driver = DriverConfig { udp: any.clone(), tcp: any, ..DriverConfig::default() };
    let config = Config::new(Credentials::Grants { relay: RELAY, secret: relay_secret() });
    start(&driver, config, [5; 32]).unwrap()
}

/// What the page is told: two devices of one call.
fn settings(relay: &Handle, transport: &str) -> Value {
    let server = if transport == "udp" { relay.udp_addresses()[0] } else { relay.tcp_addresses()[0] };
    let ends = [1, 2].map(|device| {
        let terms = GrantTerms {
            relay: RELAY,
            device: DeviceKey([device; 32]),
            tag: CallTag([9; 16]),
            not_after_s: 4_000_000_000,
            quota_bytes: 100_000_000,
        };
        let username = terms.username();
        let credential = relay_secret().password(&username);
        json!({ "urls": format!("turn:{server}?transport={transport}"), "username": username, "credential": credential })
    });
    json!({
        "ends": ends,
        "messages": MESSAGES,
        "messageBytes": MESSAGE_BYTES,
        "soundPackets": SOUND_PACKETS,
        "patienceMs": PATIENCE.as_millis() as u64,
    })
}

/// Serves the page to a browser and gives what it posts.
fn report_of(settings: &Value) -> Value {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    server.set_nonblocking(true).unwrap();
    let mut browser = Browser::open(&format!("http://{}/", server.local_addr().unwrap()));
    let page = PAGE.replace("SETTINGS", &settings.to_string());
    let end = now() + PATIENCE + Duration::from_secs(60);
    loop {
        if let Ok((connection, _)) = server.accept()
            && let Some(report) = answer(connection, &page)
        {
            assert_eq!(report["error"], Value::Null, "{report:#}\n{}", browser.said());
            return report;
        }
        assert!(browser.process.try_wait().unwrap().is_none(), "it ended: {}", browser.said());
        assert!(now() < end, "the page reported nothing; {CHROMIUM} said: {}", browser.said());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One request over HTTP/1.1: the page, or what the page has posted. Of a browser that breaks off nothing is known.
fn answer(connection: TcpStream, page: &str) -> Option<Value> {
    connection.set_nonblocking(false).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut reader = BufReader::new(connection);
    let (mut request, mut length) = (String::new(), 0);
    reader.read_line(&mut request).ok()?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|length| *length > 0)?;
        match header.trim().split_once(':') {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok()?;
            }
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (status, content) = match request.split(' ').take(2).collect::<Vec<_>>()[..] {
        ["GET", "/"] => ("200 OK", page),
        ["POST", "/report"] => ("204 No Content", ""),
        _ => ("404 Not Found", ""),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nConnection: close\r\n");
    let answer = format!("{head}Content-Length: {}\r\n\r\n{content}", content.len());
    // If it does not take the answer it asks again, or the test ends by its time limit.
    drop(reader.get_mut().write_all(answer.as_bytes()));
    (status.starts_with("204")).then(|| serde_json::from_slice(&body).unwrap())
}

/// Chromium in a process namespace: when its first process ends, all end, and that one ends with this thread.
struct Browser {
    process: Child,
    folder: PathBuf,
}

impl Browser {
    fn open(url: &str) -> Self {
        let thread = std::thread::current().id();
        let name = format!("chromium-{}-{thread:?}", std::process::id());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name.replace(['(', ')'], "-"));
        std::fs::create_dir_all(&folder).unwrap();
        let said = File::create(folder.join("said.txt")).unwrap();
        let process = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                CHROMIUM,
            ])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args([
                "--disable-dev-shm-usage",
                "--disable-breakpad",
                "--autoplay-policy=no-user-gesture-required",
            ])
            .args(["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"])
            .arg(format!("--user-data-dir={}", folder.join("data").display()))
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .unwrap();
        Self { process, folder }
    }

    /// What it wrote to its log.
    fn said(&self) -> String {
        let said = std::fs::read(self.folder.join("said.txt")).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
        // Its processes end a moment later, and until then may still write.
        let end = now() + Duration::from_secs(10);
        while std::fs::remove_dir_all(&self.folder).is_err() && self.folder.exists() && now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
