//! How the page gets in: a link with a code that opens it once, which the page trades for the token of this start.
//!
//! The code stands in the link's fragment, so no browser sends it anywhere by itself, and it is worth nothing once it was
//! used. The token never stands in a link: links stay in histories.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use subtle::{Choice, ConstantTimeEq};
use tandem_api::{API_VERSION, Failure, PageCode, PageLink, PageSession};

use super::body::{Answer, Body, Refusal};
use super::{Context, HAS_PAGE};
use crate::installation::unix_ms;
use crate::messages::Code;
use crate::platform::random;

/// A link opens the page within this time of being made, or not at all.
const CODE_LIFE: Duration = Duration::from_secs(2 * 60);
/// Links that wait to be used; a further one takes the place of the oldest.
const CODES_MAX: usize = 8;
/// Wrong codes that are answered within [`WRONG_WINDOW`]; after those none is looked at until it is over.
const WRONG_MAX: u32 = 5;
const WRONG_WINDOW: Duration = Duration::from_secs(1);

/// The one that needs the token; the other is how one gets it.
pub(super) fn routes() -> Router<Arc<Context>> {
    Router::new().route("/api/page/link", post(link))
}

/// The one that needs no token.
pub(super) fn open_routes() -> Router<Arc<Context>> {
    Router::new().route("/api/page/session", post(session))
}

/// Makes a link that opens the page once, within two minutes.
#[utoipa::path(post, path = "/api/page/link", tag = "page",
    responses((status = 200, body = PageLink), (status = "default", body = Failure)))]
pub(super) async fn link(State(context): State<Arc<Context>>) -> Json<PageLink> {
    Json(context.codes.link())
}

/// Trades the code of a link for the token. A code is good for one trade.
#[utoipa::path(post, path = "/api/page/session", tag = "page", security(()), request_body = PageCode,
    responses((status = 200, body = PageSession), (status = 401, description = "T1317", body = Failure),
              (status = 429, description = "T1318", body = Failure), (status = "default", body = Failure)))]
pub(super) async fn session(
    State(context): State<Arc<Context>>,
    Body(given): Body<PageCode>,
) -> Answer<PageSession> {
    match context.codes.trade(&given.code) {
        Ok(()) => Ok(Json(PageSession { token: context.token.clone(), api_version: API_VERSION })),
        Err(TradeError::Wrong) => Err(Refusal(Code::PageCode.problem())),
        Err(TradeError::TooMany) => Err(Refusal(Code::PageTries.problem())),
    }
}

/// The links of one start.
#[derive(Debug, Clone)]
pub(super) struct Links {
    address: SocketAddr,
    codes: Arc<Mutex<Codes>>,
}

impl Links {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, codes: Arc::default() }
    }

    pub(super) fn link(&self) -> PageLink {
        let code = self.with(|codes| codes.make(Instant::now()));
        let life_ms = u64::try_from(CODE_LIFE.as_millis()).unwrap_or(u64::MAX);
        PageLink {
            url: format!("http://{}/#code={code}", self.address),
            expires_unix_ms: unix_ms() + life_ms,
            in_build: HAS_PAGE,
        }
    }

    fn trade(&self, given: &str) -> Result<(), TradeError> {
        self.with(|codes| codes.trade(given, Instant::now()))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Codes) -> T) -> T {
        // Plain data: a panic elsewhere leaves it as good as it was.
        act(&mut self.codes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TradeError {
    Wrong,
    /// Not looked at; whoever has a good code can try again.
    TooMany,
}

/// The codes that are good now.
#[derive(Default)]
struct Codes {
    waiting: VecDeque<(String, Instant)>,
    /// When the window began in which wrong ones are counted, and how many there were.
    wrong: Option<(Instant, u32)>,
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Codes({} waiting)", self.waiting.len())
    }
}

impl Codes {
    fn make(&mut self, now: Instant) -> String {
        self.forget(now);
        if self.waiting.len() == CODES_MAX {
            self.waiting.pop_front();
        }
        let code = random::hex::<16>();
        self.waiting.push_back((code.clone(), now + CODE_LIFE));
        code
    }

    fn trade(&mut self, given: &str, now: Instant) -> Result<(), TradeError> {
        self.forget(now);
        let wrong = match self.wrong {
            Some((since, count)) if now.saturating_duration_since(since) < WRONG_WINDOW => (since, count),
            _ => (now, 0),
        };
        if wrong.1 >= WRONG_MAX {
            return Err(TradeError::TooMany);
        }
        // All are compared, whichever fits, so that the time tells nothing.
        let fits = |code: &str| -> Choice { code.as_bytes().ct_eq(given.as_bytes()) };
        let fitting: Vec<bool> = self.waiting.iter().map(|(code, _)| fits(code).into()).collect();
        let Some(index) = fitting.iter().position(|fits| *fits) else {
            self.wrong = Some((wrong.0, wrong.1 + 1));
            return Err(TradeError::Wrong);
        };
        self.waiting.remove(index);
        Ok(())
    }

    fn forget(&mut self, now: Instant) {
        self.waiting.retain(|(_, until)| *until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_once_and_for_two_minutes() {
        let now = Instant::now();
        let mut codes = Codes::default();
        let (first, second) = (codes.make(now), codes.make(now));
        assert_ne!(first, second);
        assert_eq!(codes.trade(&first, now), Ok(()));
        assert_eq!(codes.trade(&first, now), Err(TradeError::Wrong), "used");
        assert_eq!(codes.trade(&second, now + CODE_LIFE), Err(TradeError::Wrong), "run out");
        let third = codes.make(now);
        assert_eq!(codes.trade(&third, now + CODE_LIFE - Duration::from_millis(1)), Ok(()));
        assert!(!format!("{codes:?}").contains(&second));
    }

    #[test]
    fn guesses_are_counted_and_a_good_code_outlives_them() {
        let now = Instant::now();
        let mut codes = Codes::default();
        let code = codes.make(now);
        for guess in ["", "0", &code[1..], &format!("{code}0"), &code.to_uppercase()] {
            assert_eq!(codes.trade(guess, now), Err(TradeError::Wrong), "{guess:?}");
        }
        assert_eq!(codes.trade(&code, now), Err(TradeError::TooMany), "not looked at");
        let later = now + WRONG_WINDOW;
        assert_eq!(codes.trade(&code, later), Ok(()), "and not used up");
    }

    #[test]
    fn links_that_nobody_uses_do_not_pile_up() {
        let now = Instant::now();
        let mut codes = Codes::default();
        let made: Vec<String> = (0..100).map(|_| codes.make(now)).collect();
        assert_eq!(codes.waiting.len(), CODES_MAX);
        assert_eq!(codes.trade(&made[0], now), Err(TradeError::Wrong));
        assert_eq!(codes.trade(&made[99], now), Ok(()));
    }
}
