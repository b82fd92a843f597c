//! The servers that are compared, each set up so that it does the same work: TURN REST credentials, one worker thread,
//! no log, its own port on loopback.

use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Stand;

/// The TURN REST secret of every server here.
pub(super) const SECRET: &str = "measured";
const START: Duration = Duration::from_secs(10);
/// The delay of the floor that coalesces, in microseconds: the most that the relay takes.
const COALESCE_US: &str = "1000";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Floor,
    FloorCoalescing,
    Tandem,
    TandemTwoThreads,
    Coturn,
    TurnServer,
}

impl Peer {
    pub(super) const ALL: [Self; 6] = [
        Self::Floor,
        Self::FloorCoalescing,
        Self::Tandem,
        Self::TandemTwoThreads,
        Self::TurnServer,
        Self::Coturn,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::FloorCoalescing => "floor, 1 ms coalescing",
            Self::Tandem => "tandem relay",
            Self::TandemTwoThreads => "tandem relay, 2 threads",
            Self::Coturn => "coturn",
            Self::TurnServer => "turn-server",
        }
    }

    pub(super) fn protocol(self) -> &'static str {
        if matches!(self, Self::Floor | Self::FloorCoalescing) { "floor" } else { "turn" }
    }
}

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts it and waits until its port is open.
    pub(super) fn start(stand: &Stand<'_>, peer: Peer) -> Result<Self> {
        let port = free_port()?;
        let mut command = command(stand, peer, port)?;
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let log = stand.bench.file(&format!("{}.log", peer.name()), b"")?;
        command.stderr(std::fs::File::create(log)?);
        let child = command.spawn().with_context(|| format!("cannot start {}", peer.name()))?;
        let mut server = Self { child, port };
        let begun = Instant::now();
        while !is_bound(port)? {
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended at once ({status})", peer.name());
            }
            if begun.elapsed() > START {
                bail!("{} does not open its port", peer.name());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Killed, so that nobody drains; an error means that it has ended by itself.
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            tracing::debug!(%error, "a server had ended");
        }
    }
}

fn command(stand: &Stand<'_>, peer: Peer, port: u16) -> Result<Command> {
    let listen = format!("127.0.0.1:{port}");
    let mut command = match peer {
        Peer::Floor | Peer::FloorCoalescing => Command::new(&stand.load),
        Peer::Tandem | Peer::TandemTwoThreads => Command::new(&stand.relay),
        Peer::Coturn => Command::new("turnserver"),
        Peer::TurnServer => Command::new(&stand.turn_server),
    };
    match peer {
        Peer::Floor => command.args(["floor", "--listen", &listen]),
        Peer::FloorCoalescing => command.args(["floor", "--listen", &listen, "--coalesce-us", COALESCE_US]),
        Peer::Tandem => command.args(["relay", "--listen", &listen, "--rest-secret", SECRET]),
        Peer::TandemTwoThreads => {
            command.args(["relay", "--listen", &listen, "--rest-secret", SECRET, "--threads", "2"])
        }
        Peer::Coturn => {
            let port = port.to_string();
            command.args(["-n", "-L", "127.0.0.1", "-E", "127.0.0.1", "-p", &port, "--realm", "bench"]);
            command.args(["--relay-threads", "1", "--use-auth-secret", "--static-auth-secret", SECRET]);
            command.args(["--allow-loopback-peers", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp"]);
            command.args(["--no-tcp-relay", "--no-stdout-log", "--log-file", "/dev/null"]);
            command.args(["--min-port", "20000", "--max-port", "65000", "--no-software-attribute"])
        }
        Peer::TurnServer => {
            let config = format!(
                "[server]\nport-range = \"20000..65000\"\nmax-threads = 1\nrealm = \"bench\"\n\
                 [[server.interfaces]]\ntransport = \"udp\"\nlisten = \"{listen}\"\nexternal = \"{listen}\"\n\
                 [log]\nlevel = \"error\"\nstdout = false\n[auth]\nstatic-auth-secret = \"{SECRET}\"\n"
            );
            let path = stand.bench.file("turn-server.toml", config.as_bytes())?;
            command.arg("--config").arg(path)
        }
    };
    Ok(command)
}

fn free_port() -> Result<u16> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Whether somebody has a UDP socket on this port of 127.0.0.1 (the kernel lists them in hexadecimal).
fn is_bound(port: u16) -> Result<bool> {
    let sockets = std::fs::read_to_string("/proc/net/udp")?;
    Ok(sockets.contains(&format!("0100007F:{port:04X} ")))
}
