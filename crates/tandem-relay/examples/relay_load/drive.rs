//! The loads: paced as calls are, and as much as the server can take.

use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use crate::Options;
use crate::clients::{Arrivals, BURST, CHANNEL_FIRST, Clients, HELLO, Inbox, burst_headers, sound};
use crate::gauge;
use crate::turn::Population;

/// How long what is still on its way is waited for.
const TAIL: Duration = Duration::from_millis(300);
/// Packets on their way when a server is to be saturated: as many as the smallest usual receive buffer holds.
const WINDOW: u64 = 192;
/// If nothing arrives for so long, what is on its way is taken as lost.
const STALLED: Duration = Duration::from_millis(50);
/// Sound before what is measured: connections and caches settle, and coalescing finds its pace.
const WARM_UP: Duration = Duration::from_millis(300);

/// What is asked on the command line.
#[derive(Debug)]
struct Load {
    clients: Clients,
    pid: u32,
    calls: u32,
    packets_per_second: u64,
    length: Duration,
    window: u64,
    is_floor: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mode: String = options.get("mode")?;
    let server: SocketAddrV4 = options.get("server")?;
    let is_floor = options.or("protocol", "turn".to_owned())? == "floor";
    let calls = options.or("calls", 200)?;
    let load = Load {
        clients: Clients::to(server)?,
        pid: options.get("pid")?,
        calls,
        packets_per_second: options.or("packets-per-second", u64::from(calls) * 100)?,
        length: Duration::from_millis(options.or("length-ms", 3_000)?),
        window: options.or("window", WINDOW)?,
        is_floor,
    };
    // The default slack of 50 µs would send two packets at once.
    nix::sys::prctl::set_timerslack(1)?;
    let secret: String = options.or("secret", String::new())?;
    let mut inbox = Inbox::new();
    let idle = hold_idle(&load, &mut inbox, &secret, options.or("idle", 0)?)?;
    let mut found = json!({});
    if mode != "none" {
        set_up(&load, &mut inbox, &secret)?;
        found = match mode.as_str() {
            "paced" => paced(&load)?,
            "saturated" => saturated(&load)?,
            other => bail!("there is no mode '{other}'"),
        };
    }
    found["idle"] = idle;
    found["threads"] = gauge::threads(load.pid)?.into();
    #[expect(clippy::print_stdout, reason = "the figures are its output")]
    {
        println!("{found}");
    }
    Ok(())
}

/// Allocations of others that do nothing: what each costs in memory, and in CPU to make.
fn hold_idle(load: &Load, inbox: &mut Inbox, secret: &str, count: u32) -> Result<Value> {
    if count == 0 {
        return Ok(Value::Null);
    }
    // A first few, so that what a server sets up once is no part of it.
    let (some, rest) = (100.min(count), count.saturating_sub(100));
    let first = load.calls * 2;
    Population::new(secret, some, "early").allocate(&load.clients, inbox, first)?;
    let (memory, cpu) = (gauge::private_bytes(load.pid)?, gauge::cpu_ns(load.pid)?);
    Population::new(secret, rest, "idle").allocate(&load.clients, inbox, first + some)?;
    let cpu_ns = gauge::cpu_ns(load.pid)? - cpu;
    let bytes = gauge::private_bytes(load.pid)?.saturating_sub(memory);
    let each = f64::from(rest.max(1));
    Ok(json!({
        "allocations": rest, "bytes_each": bytes as f64 / each, "cpu_us_each": cpu_ns as f64 / 1e3 / each,
    }))
}

fn set_up(load: &Load, inbox: &mut Inbox, secret: &str) -> Result<()> {
    if load.is_floor {
        for client in 0..load.calls * 2 {
            let [high, low] = u16::try_from(client)?.to_be_bytes();
            load.clients.send(client, &[HELLO[0], HELLO[1], high, low])?;
        }
        std::thread::sleep(Duration::from_millis(100));
        return Ok(());
    }
    let mut population = Population::new(secret, load.calls * 2, "call");
    population.allocate(&load.clients, inbox, 0)?;
    population.bind(&load.clients, inbox, 0)
}

impl Load {
    /// On which channel a client reaches its partner. The floor has numbers instead of channels.
    fn channel(&self, client: u32) -> u16 {
        let partner = if self.is_floor { client ^ 1 } else { 0 };
        CHANNEL_FIRST + u16::try_from(partner).unwrap_or(u16::MAX - CHANNEL_FIRST)
    }
}

/// Each packet at its own moment, evenly spread over the clients.
fn paced(load: &Load) -> Result<Value> {
    let every = Duration::from_nanos(1_000_000_000 / load.packets_per_second.max(1));
    send_paced(load, every, WARM_UP)?;
    let cpu = gauge::cpu_ns(load.pid)?;
    let (sent, delays) = send_paced(load, every, load.length)?;
    let cpu_ns = gauge::cpu_ns(load.pid)? - cpu;
    report(sent, delays, cpu_ns, load.length)
}

fn send_paced(load: &Load, every: Duration, length: Duration) -> Result<(u64, Vec<u64>)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| collect(&load.clients, &stop));
        let sent = send_each(load, every, length);
        std::thread::sleep(TAIL);
        stop.store(true, Ordering::Release);
        let delays = receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
        Ok((sent?, delays))
    })
}

fn send_each(load: &Load, every: Duration, length: Duration) -> Result<u64> {
    let begun = Instant::now();
    let mut sent: u64 = 0;
    while begun.elapsed() < length {
        let due = begun.elapsed().as_nanos() / every.as_nanos();
        while u128::from(sent) <= due {
            // Callers first and then callees, so that both ends of a call do not speak at the same moment.
            let turn = sent % u64::from(load.calls * 2);
            let client = u32::try_from(turn * 2 % u64::from(load.calls * 2) + turn / u64::from(load.calls))?;
            load.clients.send(client, &sound(load.channel(client)))?;
            sent += 1;
        }
        let next = every * u32::try_from(sent)?;
        std::thread::sleep(next.saturating_sub(begun.elapsed()));
    }
    Ok(sent)
}

/// Time stamps are the kernel's, so arrivals need not be read at once, and nobody is woken for each.
fn collect(clients: &Clients, stop: &AtomicBool) -> Result<Vec<u64>> {
    let (mut inbox, mut arrivals) = (Inbox::new(), Arrivals::default());
    while !stop.load(Ordering::Acquire) {
        while clients.receive(&mut inbox, &mut arrivals)? > 0 {}
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(arrivals.delays_ns)
}

/// As much as arrives: so many packets are always on their way that the server never finds its queue empty.
fn saturated(load: &Load) -> Result<Value> {
    let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| count(&load.clients, &stop, &received));
        let outcome = send_window(load, &received, WARM_UP).and_then(|_| {
            let (cpu, before) = (gauge::cpu_ns(load.pid)?, received.load(Ordering::Acquire));
            let begun = Instant::now();
            let (sent, lost) = send_window(load, &received, load.length)?;
            let cpu_ns = gauge::cpu_ns(load.pid)? - cpu;
            let delivered = received.load(Ordering::Acquire) - before;
            ensure!(delivered > 0, "nothing was delivered");
            Ok(json!({
                "sent": sent, "delivered": delivered, "lost": lost, "cpu_ns": cpu_ns,
                "cpu_us_per_packet": cpu_ns as f64 / 1e3 / delivered as f64,
                "packets_per_second": delivered as f64 / begun.elapsed().as_secs_f64(),
            }))
        });
        stop.store(true, Ordering::Release);
        receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
        outcome
    })
}

fn send_window(load: &Load, received: &AtomicU64, length: Duration) -> Result<(u64, u64)> {
    let mut headers = burst_headers();
    let begun = Instant::now();
    let first = received.load(Ordering::Acquire);
    let (mut sent, mut lost, mut client) = (0, 0, 0);
    let (mut last, mut last_at) = (first, begun);
    while begun.elapsed() < length {
        let now = received.load(Ordering::Acquire);
        if now != last {
            (last, last_at) = (now, Instant::now());
        }
        let arrived = now - first;
        let flying = u64::saturating_sub(sent, arrived + lost);
        if flying + BURST as u64 <= load.window {
            let packets = [sound(load.channel(client)); BURST];
            sent += load.clients.send_burst(&mut headers, client, &packets)? as u64;
            client = (client + 2) % (load.calls * 2)
                + u32::from(client + 2 >= load.calls * 2) * ((client + 1) % 2);
        } else if last_at.elapsed() > STALLED {
            lost += flying;
            last_at = Instant::now();
        } else {
            std::thread::sleep(Duration::from_micros(20));
        }
    }
    Ok((sent, lost))
}

fn count(clients: &Clients, stop: &AtomicBool, received: &AtomicU64) -> Result<()> {
    let (mut inbox, mut arrivals) = (Inbox::new(), Arrivals::default());
    while !stop.load(Ordering::Acquire) {
        clients.receive(&mut inbox, &mut arrivals)?;
        received.fetch_add(arrivals.delays_ns.len() as u64, Ordering::AcqRel);
        arrivals.delays_ns.clear();
        arrivals.messages.clear();
    }
    Ok(())
}

fn report(sent: u64, mut delays_ns: Vec<u64>, cpu_ns: u64, length: Duration) -> Result<Value> {
    delays_ns.sort_unstable();
    let delivered = delays_ns.len();
    ensure!(delivered > 0, "nothing was delivered");
    let at = |share: f64| delays_ns[((delivered - 1) as f64 * share) as usize] as f64 / 1e3;
    Ok(json!({
        "sent": sent, "delivered": delivered, "lost": sent.saturating_sub(delivered as u64), "cpu_ns": cpu_ns,
        "cpu_us_per_packet": cpu_ns as f64 / 1e3 / delivered as f64,
        "packets_per_second": delivered as f64 / length.as_secs_f64(),
        "delay_p50_us": at(0.5), "delay_p99_us": at(0.99), "delay_max_us": at(1.0),
    }))
}
