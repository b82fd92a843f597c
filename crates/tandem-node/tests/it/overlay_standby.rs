//! The gate of a service swarm: a node in standby can be found and serves nothing.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is missing")]

use std::time::Duration;

use tandem_core::election::Carrier;
use tandem_node::overlay::{
    Check, CheckOutcome, DeviceCommand, DeviceEvent, ServiceCommand, ServiceEvent, SupernodeAddress,
};

use crate::overlay_records::{account, get, put, record};
use crate::overlay_world::{Device, Service, both, next};

async fn gate(of: &Service, open: bool) {
    of.commands.send(ServiceCommand::Gate { open }).await.unwrap();
}

async fn home_opened(device: &mut Device, home: &Service) {
    let address = SupernodeAddress { service: home.key, addresses: both(home.listen) };
    device.send(DeviceCommand::OpenHome(address)).await;
    next(&mut device.events, |event| match event {
        DeviceEvent::HomeOpened { service, .. } if service == home.key => Some(()),
        DeviceEvent::HomeClosed { reason, .. } => panic!("{reason}"),
        _ => None,
    })
    .await;
}

/// Asks for a circuit reservation until it is given, or refused: a connection hears a moment later of what was ordered.
async fn reserves(device: &mut Device, home: &Service, wanted: bool) {
    let ask = async {
        loop {
            device.send(DeviceCommand::Reserve(home.key)).await;
            let reserved = next(&mut device.events, |event| match event {
                DeviceEvent::Reserved { service } => (service == home.key).then_some(true),
                DeviceEvent::ReservationLost { service, .. } => (service == home.key).then_some(false),
                _ => None,
            });
            if reserved.await == wanted {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ask).await.expect("the order is followed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_standby_it_is_reached_and_carries_no_circuit() {
    let home = Service::start_with(151, |config| config.open = false);
    let mut other = Service::start(152);
    for carrier in [Carrier::Udp, Carrier::Tcp] {
        let check = Check { id: 1, at: home.listen, carrier, service: home.key, relay_port: None };
        other.commands.send(ServiceCommand::Check(check)).await.unwrap();
        let outcome = next(&mut other.events, |event| match event {
            ServiceEvent::Checked { outcome, .. } => Some(outcome),
            _ => None,
        });
        assert_eq!(outcome.await, CheckOutcome::Reached, "{carrier:?}");
    }
    let mut device = Device::start(153);
    home_opened(&mut device, &home).await;
    device.send(DeviceCommand::Reserve(home.key)).await;
    next(&mut device.events, |event| match event {
        DeviceEvent::ReservationLost { service, .. } => (service == home.key).then_some(()),
        DeviceEvent::Reserved { .. } => panic!("a circuit was reserved in standby"),
        _ => None,
    })
    .await;

    gate(&home, true).await;
    reserves(&mut device, &home, true).await;
    gate(&home, false).await;
    let (mut closed, mut lost) = (false, false);
    next(&mut device.events, |event| {
        match event {
            DeviceEvent::HomeClosed { .. } => closed = true,
            DeviceEvent::ReservationLost { .. } => lost = true,
            _ => {}
        }
        (closed && lost).then_some(())
    })
    .await;
    home_opened(&mut device, &home).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_only_relays_carries_no_circuit_and_keeps_no_record() {
    let mut relay = Service::start(156);
    let directory = |on| ServiceCommand::Directory { on };
    relay.commands.send(directory(false)).await.unwrap();
    let mut device = Device::start(157);
    home_opened(&mut device, &relay).await;
    for on in [false, true, false] {
        relay.commands.send(directory(on)).await.unwrap();
        assert_eq!(put(&mut relay, record(1, 1, 3600).encode()).await > 0, on, "records are kept: {on}");
        reserves(&mut device, &relay, on).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_standby_it_keeps_no_records_and_answers_no_questions() {
    let mut standby = Service::start_with(154, |config| config.open = false);
    let mut other = Service::start(155);
    other.commands.send(ServiceCommand::AddToRouting(standby.address())).await.unwrap();
    let wanted = record(1, 1, 3600).encode();
    assert_eq!(put(&mut other, wanted.clone()).await, 1, "only the other one keeps it");
    assert_eq!(put(&mut standby, wanted.clone()).await, 0);

    gate(&standby, true).await;
    let kept = async {
        while put(&mut other, wanted.clone()).await < 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), kept).await.expect("a node that serves keeps records");
    assert_eq!(get(&mut standby, account().public()).await.0, Some(wanted));

    // Closed and opened again, it knows nothing of before: neither records nor other supernodes.
    gate(&standby, false).await;
    gate(&standby, true).await;
    assert_eq!(get(&mut standby, account().public()).await.0, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_standby_it_connects_to_nobody() {
    let mut standby = Service::start_with(156, |config| config.open = false);
    let mut other = Service::start(157);
    // Neither for a home stream, nor for a question to the directory, nor to try others.
    standby.commands.send(ServiceCommand::AddToRouting(other.address())).await.unwrap();
    standby.commands.send(ServiceCommand::Connect(other.address())).await.unwrap();
    let check =
        Check { id: 1, at: other.listen, carrier: Carrier::Udp, service: other.key, relay_port: None };
    standby.commands.send(ServiceCommand::Check(check)).await.unwrap();
    let mut refused = 0;
    next(&mut standby.events, |event| {
        match event {
            ServiceEvent::ConnectFailed { service, reason } => {
                assert_eq!((service, reason.as_str()), (other.key, "this node is in standby"));
                refused += 1;
            }
            ServiceEvent::Checked { outcome: CheckOutcome::NotTried(_), .. } => refused += 1,
            _ => {}
        }
        (refused == 2).then_some(())
    })
    .await;
    assert_eq!(get(&mut standby, account().public()).await.0, None);
    let (answer, table) = tokio::sync::oneshot::channel();
    other.commands.send(ServiceCommand::Connections(answer)).await.unwrap();
    assert_eq!(table.await.unwrap(), []);
    while let Ok(event) = other.events.try_recv() {
        assert!(matches!(event, ServiceEvent::Listening { .. }), "{event:?}");
    }

    gate(&standby, true).await;
    standby.commands.send(ServiceCommand::Connect(other.address())).await.unwrap();
    next(&mut standby.events, |event| match event {
        ServiceEvent::ClientOpened { outbound: true, .. } => Some(()),
        ServiceEvent::ConnectFailed { reason, .. } => panic!("{reason}"),
        _ => None,
    })
    .await;
}
