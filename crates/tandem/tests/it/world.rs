//! Starts nodes of the real binary and reads what they print.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Only ends a hang; nothing here judges speed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program.
pub(crate) fn tandem() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.env_remove("TANDEM_DATA").stdin(Stdio::null());
    command
}

/// One `tandem up`.
pub(crate) struct Node {
    process: Child,
    pub(crate) ready: Value,
    pub(crate) data: PathBuf,
    /// Of `--listen`, which a node that serves nobody does not use.
    pub(crate) listen_port: u16,
    _folder: TempDir,
}

impl Node {
    /// Starts `tandem up --json` at 127.N.0.1 with these arguments more, and reads its ready line.
    pub(crate) fn up(network: u8, more: &[&str]) -> Self {
        Self::up_in(tempfile::tempdir().unwrap(), network, more)
    }

    /// The same in a folder that may have an identity already.
    pub(crate) fn up_in(folder: TempDir, network: u8, more: &[&str]) -> Self {
        let data = folder.path().join("data");
        let ip = Ipv4Addr::new(127, network, 0, 1);
        let listen_port = free_port(ip);
        let mut process = tandem()
            .args(["up", "--json", "--listen", &format!("{ip}:{listen_port}"), "--api"])
            .arg(format!("127.0.0.1:{}", free_api_port()))
            .arg("--data")
            .arg(&data)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let line = lines(&mut process).recv_timeout(PATIENCE).expect("a ready line");
        let ready = serde_json::from_str(&line).unwrap();
        Self { process, ready, data, listen_port, _folder: folder }
    }

    /// A supernode that knows these others.
    pub(crate) fn supernode(network: u8, bootstrap: &[String]) -> Self {
        let mut more = vec!["--volunteer", "directory,relay", "--accept-terms", "1"];
        for address in bootstrap {
            more.extend(["--bootstrap", address]);
        }
        Self::up(network, &more)
    }

    /// What others may bootstrap from.
    pub(crate) fn listen(&self) -> Vec<String> {
        let addresses = self.ready["listen"].as_array().unwrap();
        addresses.iter().map(|address| address.as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn address(&self) -> &str {
        self.ready["address"].as_str().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn device(&self) -> &str {
        self.ready["device"].as_str().unwrap()
    }

    /// Runs a command on this node's data folder.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        tandem().args(arguments).arg("--data").arg(&self.data).output().unwrap()
    }

    /// SIGTERM; gives the exit status when it has ended by itself.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), Signal::SIGTERM).unwrap();
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Each line of a command's output as JSON.
pub(crate) fn json_lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

pub(crate) fn speech() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/speech/alice.wav")
}

/// A port P on which UDP P, UDP P+1 and TCP P are free.
pub(crate) fn free_port(ip: Ipv4Addr) -> u16 {
    let free = |port: u16| {
        UdpSocket::bind((ip, port)).is_ok()
            && UdpSocket::bind((ip, port + 1)).is_ok()
            && TcpListener::bind((ip, port)).is_ok()
    };
    (7_000..8_000).find(|port| free(*port)).unwrap()
}

fn free_api_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// What a process prints, by line.
pub(crate) fn lines(process: &mut Child) -> Receiver<String> {
    let output = process.stdout.take().unwrap();
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            drop(sender.send(line));
        }
    });
    lines
}
