use std::time::Duration;

use tandem_api::Problem;
use tandem_node::installation::StartError;
use tandem_node::messages::Code;
use tandem_node::platform::{random, signals};
use tandem_node::policy::{self, Role};
use tandem_proto::grant::RestSecret;
use tandem_relay::config::Config;
use tandem_relay::driver::{DriverConfig, Threads, start};

use super::{Place, log, runtime};
use crate::cli::RelayArgs;
use crate::output::{self, Exit};

/// Clients that are still talking get this long.
const DRAIN: Duration = Duration::from_secs(8);

/// An organisation's policy is about a relay alone too.
fn obey(args: &RelayArgs) -> Result<(), Problem> {
    let policy = policy::system().map_err(|error| error.problem())?;
    let mut ports = args.listen.iter().chain(&args.listen_tcp).map(std::net::SocketAddr::port);
    let allowed =
        policy.may_serve(Role::Relay).and_then(|()| ports.try_for_each(|port| policy.may_listen(port)));
    allowed.map_err(|refusal| refusal.problem())
}

pub(super) fn run(place: &Place, args: &RelayArgs) -> Result<Exit, Problem> {
    let _log = log(&args.log, None)?;
    obey(args)?;
    let tcp = args.listen.iter().chain(&args.listen_tcp).copied().collect();
    let threads = args.threads.map_or_else(Threads::as_needed, |threads| Threads::Exactly(threads.into()));
    let driver = DriverConfig { udp: args.listen.clone(), tcp, threads, ..DriverConfig::default() };
    let config = Config::for_rest_secret(RestSecret::new(&args.rest_secret));
    let relay = start(&driver, config, random::bytes()).map_err(|error| StartError::from(error).problem())?;
    let udp: Vec<String> = relay.udp_addresses().iter().map(ToString::to_string).collect();
    let tcp: Vec<String> = relay.tcp_addresses().iter().map(ToString::to_string).collect();
    let ready = serde_json::json!({ "ready": true, "udp": udp, "tcp": tcp.first(), "tcp_all": tcp });
    output::either(place.json, &ready, |_| {
        format!("The relay serves STUN and TURN at UDP {} and TCP {}.", udp.join(", "), tcp.join(", "))
    });
    runtime()?.block_on(async {
        signals::terminate().await.map_err(|error| Code::Internal.with(&[("detail", &error.to_string())]))?;
        relay.drain();
        let idle = async {
            while relay.stats().server.allocations > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = idle => {}
            () = tokio::time::sleep(DRAIN) => tracing::info!("clients were still talking"),
            _ = signals::terminate() => {}
        }
        relay.shutdown();
        Ok(Exit::Done)
    })
}
