//! The command line's way to a running node: its local API.

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tandem_api::{EventsHello, Failure, NodeEvent, Problem};
use tandem_node::api::ApiInfo;
use tandem_node::messages::Code;
use tungstenite::{Message, WebSocket};

/// A little longer than the node gives itself.
const ANSWER_TIME: Duration = Duration::from_secs(35);
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// A running node.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    info: ApiInfo,
}

impl Client {
    /// The running node of a data folder; `None` where none runs.
    pub(crate) fn find(data: &Path) -> Result<Option<Self>, Problem> {
        let unreadable =
            |error: std::io::Error| Code::ApiAnswer.with(&[("detail", &format!("api.json: {error}"))]);
        let Some(info) = ApiInfo::read(data).map_err(unreadable)? else { return Ok(None) };
        // The file outlives a node that crashed.
        if TcpStream::connect_timeout(&info.address, CONNECT_TIME).is_err() {
            return Ok(None);
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_TIME))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .build();
        Ok(Some(Self { agent: config.new_agent(), info }))
    }

    /// The running node of a data folder.
    pub(crate) fn require(data: &Path) -> Result<Self, Problem> {
        Self::find(data)?.ok_or_else(|| Code::NotRunning.with(&[("path", &data.display().to_string())]))
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        let request = self.agent.get(self.url(path)).header("authorization", self.bearer());
        answer(request.call())
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Problem> {
        let request = self.agent.post(self.url(path)).header("authorization", self.bearer());
        answer(request.send_json(body))
    }

    /// A request whose path says it all.
    pub(crate) fn post_empty<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        let request = self.agent.post(self.url(path)).header("authorization", self.bearer());
        answer(request.send_empty())
    }

    pub(crate) fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Problem> {
        let request = self.agent.put(self.url(path)).header("authorization", self.bearer());
        answer(request.send_json(body))
    }

    pub(crate) fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Problem> {
        let request = self.agent.patch(self.url(path)).header("authorization", self.bearer());
        answer(request.send_json(body))
    }

    pub(crate) fn delete(&self, path: &str) -> Result<(), Problem> {
        let request = self.agent.delete(self.url(path)).header("authorization", self.bearer());
        answer(request.call())
    }

    /// A deletion whose answer says what was deleted.
    pub(crate) fn delete_for<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        let request = self.agent.delete(self.url(path)).header("authorization", self.bearer());
        answer(request.call())
    }

    /// Events from now on.
    pub(crate) fn events(&self) -> Result<Events, Problem> {
        let stream = TcpStream::connect_timeout(&self.info.address, CONNECT_TIME).map_err(|e| unclear(&e))?;
        let url = format!("ws://{}/api/events", self.info.address);
        let (mut socket, _) = tungstenite::client(url, stream).map_err(|e| unclear(&e))?;
        let hello = EventsHello { token: self.info.token.clone() };
        let text = serde_json::to_string(&hello).map_err(|e| unclear(&e))?;
        socket.send(Message::text(text)).map_err(|e| unclear(&e))?;
        let mut events = Events { socket };
        match events.next()? {
            Some(NodeEvent::Welcome { .. }) => Ok(events),
            _ => Err(unclear(&"no welcome")),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.info.address)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.info.token)
    }
}

/// The stream of events of a node.
#[derive(Debug)]
pub(crate) struct Events {
    socket: WebSocket<TcpStream>,
}

impl Events {
    /// The next event; `None` when the node has closed.
    pub(crate) fn next(&mut self) -> Result<Option<NodeEvent>, Problem> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    return serde_json::from_str(&text).map(Some).map_err(|e| unclear(&e));
                }
                Ok(Message::Close(_)) => return Ok(None),
                Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed) => {
                    return Ok(None);
                }
                Ok(_) => {}
                Err(error) => return Err(unclear(&error)),
            }
        }
    }
}

fn answer<T: DeserializeOwned>(
    result: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<T, Problem> {
    let mut response = result.map_err(|error| unclear(&error))?;
    if response.status().is_success() {
        return response.body_mut().read_json().map_err(|error| unclear(&error));
    }
    let status = response.status();
    match response.body_mut().read_json::<Failure>() {
        Ok(failure) => Err(failure.error),
        Err(_) => Err(unclear(&status)),
    }
}

fn unclear(detail: &dyn std::fmt::Display) -> Problem {
    Code::ApiAnswer.with(&[("detail", &detail.to_string())])
}

/// A text as one part of a path (RFC 3986 §2.1).
pub(crate) fn path_part(text: &str) -> String {
    use std::fmt::Write;
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':') {
            part.push(char::from(byte));
        } else {
            write!(part, "%{byte:02X}").expect("invariant: writing to a string does not fail");
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_become_one_part_of_a_path() {
        assert_eq!(path_part("Bob"), "Bob");
        assert_eq!(path_part("a/b é?"), "a%2Fb%20%C3%A9%3F");
    }
}
