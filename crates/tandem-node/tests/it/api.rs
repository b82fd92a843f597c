//! The local API over real sockets, with a loop that answers as a node would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use tandem_api::{CallStarted, Identity, Metrics, NodeEvent, Problem};
use tandem_node::api::{ApiError, ApiInfo, ApiListener, ApiServer, openapi_json, serve};
use tandem_node::handle::{NodeHandle, NodeSide, Request, channel};
use tandem_node::messages::Code;
use tempfile::TempDir;
use tokio::sync::broadcast;
use tungstenite::Message;

/// A node whose loop answers a few questions.
pub(crate) struct Fixture {
    pub(crate) data: TempDir,
    pub(crate) server: ApiServer,
    pub(crate) token: String,
    pub(crate) address: SocketAddr,
    events: broadcast::Sender<NodeEvent>,
}

pub(crate) async fn fixture() -> Fixture {
    let data = tempfile::tempdir().unwrap();
    let (handle, side) = channel();
    let events = side.events.clone();
    tokio::spawn(answer(side));
    let server = serve("127.0.0.1:0".parse().unwrap(), data.path(), handle).await.unwrap();
    let token = std::fs::read_to_string(data.path().join("api-token")).unwrap();
    let address = server.address();
    Fixture { data, server, token, address, events }
}

async fn answer(mut side: NodeSide) {
    while let Some(request) = side.requests.recv().await {
        // Whoever asked may be gone.
        match request {
            Request::Identity(reply) => drop(reply.send(Ok(identity()))),
            Request::Metrics(reply) => drop(reply.send(Ok(Metrics::default()))),
            Request::PlaceCall(request, reply) => drop(reply.send(Ok(CallStarted { call: request.address }))),
            Request::HangUp { call, reply } => {
                drop(reply.send(Err(Code::CallState.with(&[("state", &format!("[{call}]"))]))));
            }
            Request::RemoveContact { who, reply } => {
                drop(reply.send(Err(Code::NoSuchContact.with(&[("who", &who)]))));
            }
            // The rest is dropped, as by a loop that ends.
            _ => {}
        }
    }
}

fn identity() -> Identity {
    Identity {
        address: "tandem:a".to_owned(),
        device: "d".to_owned(),
        service: "s".to_owned(),
        has_account_key: true,
        sealed: false,
        epoch: 1,
        certificate_serial: 2,
        certificate_not_after_unix_ms: 3,
        devices: 1,
        label: String::new(),
        restoring: false,
        revoked: false,
    }
}

/// One request; status and body.
pub(crate) async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let (status, _, body) = ask_whole(address, method, path, headers, body).await;
    (status, body)
}

/// One request; status, headers and body.
pub(crate) async fn ask_whole(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String, String) {
    let mut text =
        format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, head.to_lowercase(), body.to_owned())
    })
    .await
    .unwrap()
}

impl Fixture {
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let bearer = format!("Bearer {}", self.token);
        let headers = [headers, &[("Authorization", bearer.as_str())]].concat();
        ask(self.address, "GET", path, &headers, "").await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        ask(self.address, method, path, &headers, body).await
    }
}

pub(crate) fn code(body: &str) -> String {
    let failure: tandem_api::Failure =
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    failure.error.code
}

#[tokio::test]
async fn the_token_is_asked_for_and_changes_at_each_start() {
    let first = fixture().await;
    let (status, body) = first.get("/api/identity", &[]).await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Identity>(&body).unwrap(), identity());
    for wrong in
        ["", "Bearer ", "Bearer 00", &format!("Basic {}", first.token), &format!("Bearer {}x", first.token)]
    {
        let (status, body) =
            ask(first.address, "GET", "/api/identity", &[("Authorization", wrong)], "").await;
        assert_eq!((status, code(&body).as_str()), (401, "T1308"), "{wrong}");
    }
    let (status, _) = ask(first.address, "GET", "/metrics", &[], "").await;
    assert_eq!(status, 401);
    let second = fixture().await;
    assert_ne!(first.token, second.token);
    assert_eq!(first.token.len(), 64);
}

#[tokio::test]
async fn other_hosts_and_other_sites_pages_are_refused() {
    let fixture = fixture().await;
    let port = fixture.address.port();
    for host in ["evil.example", &format!("evil.example:{port}"), "127.0.0.1", "127.0.0.1:1"] {
        let (status, body) = fixture.get("/api/identity", &[("Host", host)]).await;
        assert_eq!((status, code(&body).as_str()), (403, "T1309"), "{host}");
    }
    for origin in ["http://evil.example", "null", &format!("https://127.0.0.1:{port}"), "http://127.0.0.1:1"]
    {
        let (status, _) = fixture.get("/api/identity", &[("Origin", origin)]).await;
        assert_eq!(status, 403, "{origin}");
    }
    let own = format!("http://localhost:{port}");
    let (status, _) =
        fixture.get("/api/identity", &[("Host", &format!("localhost:{port}")), ("Origin", &own)]).await;
    assert_eq!(status, 200);
    let (status, _) = ask(fixture.address, "GET", "/api/openapi.json", &[("Host", "evil.example")], "").await;
    assert_eq!(status, 403, "also what needs no token");
}

#[tokio::test]
async fn the_port_is_loopback_and_free_or_nothing_starts() {
    let (handle, _side) = channel();
    let data = tempfile::tempdir().unwrap();
    let open = serve("0.0.0.0:0".parse().unwrap(), data.path(), handle.clone()).await;
    assert!(matches!(open, Err(ApiError::NotLoopback(_))));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = serve(taken.local_addr().unwrap(), data.path(), handle).await.unwrap_err();
    assert!(matches!(error, ApiError::PortTaken(_)), "{error}");
    assert_eq!(error.problem().code, "T1305");
    assert!(!data.path().join("api.json").exists());
}

#[tokio::test]
async fn others_find_it_while_it_runs() {
    let fixture = fixture().await;
    let info = ApiInfo::read(fixture.data.path()).unwrap().unwrap();
    assert_eq!((info.address, info.pid), (fixture.address, std::process::id()));
    assert_eq!(info.token, fixture.token);
    assert!(!format!("{info:?}").contains(&fixture.token));
    #[cfg(unix)]
    for name in ["api.json", "api-token"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(fixture.data.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    fixture.server.stop().await;
    assert_eq!(ApiInfo::read(fixture.data.path()).unwrap(), None);
    assert!(TcpStream::connect(fixture.address).is_err());
}

#[tokio::test]
async fn problems_have_one_shape_and_a_fitting_status() {
    let fixture = fixture().await;
    let cases = [
        ("GET", "/api/nothing", "", 404, "T1310"),
        ("PUT", "/api/identity", "", 404, "T1310"),
        ("POST", "/api/calls", "{", 400, "T1311"),
        ("POST", "/api/calls", "{\"address\":\"a\",\"adress\":\"b\"}", 400, "T1311"),
        ("POST", "/api/calls/0a/hangup", "", 409, "T1503"),
        ("DELETE", "/api/contacts/Bob%2FX", "", 404, "T1601"),
        ("GET", "/api/status", "", 503, "T1303"),
    ];
    for (method, path, body, status, expected) in cases {
        let (found, answer) = fixture.send(method, path, body).await;
        assert_eq!((found, code(&answer).as_str()), (status, expected), "{method} {path}: {answer}");
    }
    let long = format!("{{\"address\":\"{}\"}}", "a".repeat(70_000));
    let (status, body) = fixture.send("POST", "/api/calls", &long).await;
    assert_eq!((status, code(&body).as_str()), (413, "T1312"));
    let (_, answer) = fixture.send("POST", "/api/calls/current/hangup", "").await;
    assert!(answer.contains("([])"), "`current` is no name: {answer}");
    let (status, answer) = fixture.send("POST", "/api/calls", "{\"address\":\"Bob\"}").await;
    assert_eq!((status, answer.as_str()), (200, "{\"call\":\"Bob\"}"));
}

#[tokio::test]
async fn events_come_after_the_token() {
    let fixture = fixture().await;
    let (address, token, events) = (fixture.address, fixture.token.clone(), fixture.events.clone());
    let connect = move || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        tungstenite::client(format!("ws://{address}/api/events"), stream).unwrap().0
    };
    tokio::task::spawn_blocking(move || {
        let mut stranger = connect();
        stranger.send(Message::text("{\"token\":\"00\"}")).unwrap();
        let Message::Close(Some(frame)) = stranger.read().unwrap() else { panic!("not closed") };
        assert_eq!(u16::from(frame.code), 4401);

        let mut friend = connect();
        friend.send(Message::text(format!("{{\"token\":\"{token}\"}}"))).unwrap();
        let welcome: NodeEvent = serde_json::from_str(friend.read().unwrap().to_text().unwrap()).unwrap();
        assert!(matches!(welcome, NodeEvent::Welcome { .. }));
        let event = NodeEvent::Homes { ready: true, homes: vec!["x".to_owned()] };
        events.send(event.clone()).unwrap();
        let text = loop {
            match friend.read().unwrap() {
                Message::Text(text) => break text,
                Message::Ping(_) => {}
                other => panic!("{other}"),
            }
        };
        assert_eq!(serde_json::from_str::<NodeEvent>(&text).unwrap(), event);
        assert!(text.contains("\"type\":\"homes\""));
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_description_is_whole() {
    let document: serde_json::Value = serde_json::from_str(&openapi_json()).unwrap();
    let fixture = fixture().await;
    let (status, body) = ask(fixture.address, "GET", "/api/openapi.json", &[], "").await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), document);

    // Each route it describes is there: an answer from the node or from the route, never "nothing here".
    let paths = document["paths"].as_object().unwrap();
    let mut described = 0;
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            described += 1;
            let path = path.replace("{who}", "x").replace("{call}", "x");
            let (_, body) = fixture.send(&method.to_uppercase(), &path, "{}").await;
            assert!(!body.contains("T1310"), "{method} {path}: {body}");
        }
    }
    // And each route there is stands in it: this number grows with the router.
    let router = include_str!("../../src/api/routes.rs");
    let start = router.find("pub(super) fn router").unwrap();
    let end = start + router[start..].find(".fallback").unwrap();
    let of_file = |file: &'static str| {
        let first = file.find("pub(super) fn routes").unwrap();
        &file[first..first + file[first..].find("\n}").unwrap()]
    };
    let strangers = of_file(include_str!("../../src/api/strangers.rs"));
    let volunteer = of_file(include_str!("../../src/api/volunteer.rs"));
    let page = include_str!("../../src/api/page.rs");
    let page = &page[page.find("pub(super) fn routes").unwrap()..page.find("#[utoipa").unwrap()];
    let all = [&router[start..end], strangers, volunteer, page].concat();
    let served: usize =
        ["get(", "post(", "put(", "patch(", "delete("].iter().map(|method| all.matches(method).count()).sum();
    assert_eq!(described, served);
    for schema in
        ["Status", "CallSummary", "NodeEvent", "Problem", "Failure", "DoctorReport", "ConnectionView"]
    {
        assert!(document["components"]["schemas"][schema].is_object(), "{schema}");
    }
}

#[tokio::test]
async fn a_node_that_is_full_or_gone_says_so() {
    let (handle, side) = channel();
    let waiting: Vec<_> = (0..tandem_node::handle::REQUEST_QUEUE)
        .map(|_| {
            let handle: NodeHandle = handle.clone();
            tokio::spawn(async move { handle.ask(Request::Identity).await })
        })
        .collect();
    while side.requests.len() < tandem_node::handle::REQUEST_QUEUE {
        tokio::task::yield_now().await;
    }
    let refused: Problem = handle.ask(Request::Identity).await.unwrap_err();
    assert_eq!(refused.code, "T1302");
    drop(side);
    for asked in waiting {
        assert_eq!(asked.await.unwrap().unwrap_err().code, "T1303");
    }
    assert_eq!(handle.ask(Request::Identity).await.unwrap_err().code, "T1303");
    assert_eq!(handle.ready().await, None);
    let listener = ApiListener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    drop(listener);
}
