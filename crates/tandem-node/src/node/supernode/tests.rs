use std::net::IpAddr;

use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{HomeFrame, HomeHello, LookUp};

use super::*;

const NOW: Now = Now { mono_ms: 1_000, unix_ms: 1_800_000_000_000 };

fn supernode() -> (Supernode, mpsc::Receiver<ServiceCommand>) {
    let (commands, queue) = mpsc::channel(4_096);
    let plan = SupernodePlan {
        secret: ServiceSecret::from_seed(&[1; 32]),
        reached_at: Reached::default(),
        listening_on: 0,
        finds_out: false,
        roles: Roles::DIRECTORY,
        caps: Caps::default(),
        relay: None,
        commands,
        directory_traffic: Traffic::default(),
        seed: 1,
    };
    (Supernode::new(plan, NOW), queue)
}

fn said(queue: &mut mpsc::Receiver<ServiceCommand>) -> Vec<Body> {
    let commands = std::iter::from_fn(|| queue.try_recv().ok());
    let frames = commands.filter_map(|command| match command {
        ServiceCommand::SendHome { frame, .. } => frame.body,
        _ => None,
    });
    frames.collect()
}

/// Whether a newcomer's look-up is refused.
fn refuses(
    supernode: &mut Supernode,
    queue: &mut mpsc::Receiver<ServiceCommand>,
    (number, now): (u64, Now),
) -> bool {
    let client = ClientId(number);
    let remote = Some(IpAddr::from([192, 0, 2, 1]));
    let opened = ServiceEvent::ClientOpened { client, peer: [7; 32], remote, outbound: false };
    supernode.handle_overlay(opened, now);
    let time_s = now.unix_ms / 1_000;
    let hello = HomeHello { version_min: 1, version_max: 1, time_s, ..HomeHello::default() };
    let look_up = Body::LookUp(LookUp { account: vec![9; 32] });
    for (id, body) in [(0, Body::Hello(hello)), (1, look_up)] {
        let frame = HomeFrame { id, body: Some(body) };
        supernode.handle_overlay(ServiceEvent::ClientFrame { client, frame }, now);
    }
    supernode.handle_overlay(ServiceEvent::ClientClosed { client, reason: String::new() }, now);
    said(queue).iter().any(|body| matches!(body, Body::Busy(_)))
}

#[test]
fn processors_that_stay_busy_refuse_what_matters_least() {
    let (mut supernode, mut queue) = supernode();
    let busy = MachineLoad { processors_percent: Some(100), ..MachineLoad::default() };
    let between = MachineLoad::default();
    let mut now = NOW;
    let mut refused_after_s = None;
    for second in 0..600 {
        now = now.plus_ms(1_000);
        supernode.handle_timeout(now);
        supernode.note_load(if second % 10 == 0 { busy } else { between }, now);
        if refuses(&mut supernode, &mut queue, (second, now)) && refused_after_s.is_none() {
            refused_after_s = Some(second);
        }
    }
    assert!(refused_after_s.is_some_and(|second| second >= 60), "{refused_after_s:?}");
    assert!(supernode.load_percent() >= 90, "{}", supernode.load_percent());
    for second in 600..900 {
        now = now.plus_ms(1_000);
        supernode.handle_timeout(now);
        let idle = MachineLoad { processors_percent: Some(1), ..MachineLoad::default() };
        supernode.note_load(if second % 10 == 0 { idle } else { between }, now);
    }
    said(&mut queue);
    assert!(!refuses(&mut supernode, &mut queue, (1_000, now)));
    assert!(supernode.load_percent() < 30, "{}", supernode.load_percent());
}
