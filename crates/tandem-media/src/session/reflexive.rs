//! Where relays see a host socket: Binding requests (RFC 8489) to two of the call's relays, asked again so that the
//! mapping lives (RFC 8445 §5.1.1.4) and a change of it is noticed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stun_types::message::TransactionId;

use super::stun::{Answer, Transactions, binding_request};

/// Relays asked about one socket: with two answers a NAT that maps by destination is known.
const SERVERS_MAX: usize = 2;
/// RFC 8445 §14.3.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_millis(100);
const TRIES_MAX: u8 = 6;
/// Of an answer to decide by: two keep-alives and some.
const FRESH: Duration = Duration::from_secs(40);

/// The addresses one socket is seen at.
#[derive(Debug)]
pub(super) struct Reflexive {
    asked: Vec<Asked>,
    /// What was told, and whose answer it was.
    told: Option<(SocketAddr, SocketAddr)>,
}

#[derive(Debug)]
struct Asked {
    server: SocketAddr,
    transaction: Option<TransactionId>,
    tries: u8,
    next: Instant,
    seen: Option<(SocketAddr, Instant)>,
}

/// What an answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    /// An address to tell.
    pub(super) new: Option<SocketAddr>,
    /// Whether two servers see different addresses, once two have answered.
    pub(super) varies: Option<bool>,
}

impl Reflexive {
    pub(super) fn new() -> Self {
        Self { asked: Vec::new(), told: None }
    }

    /// The questions that are due.
    pub(super) fn questions(
        &mut self,
        servers: impl Iterator<Item = SocketAddr>,
        transactions: &mut Transactions,
        now: Instant,
    ) -> Vec<(SocketAddr, Vec<u8>)> {
        for server in servers {
            self.take_server(server, now);
        }
        let mut questions = Vec::new();
        for asked in self.asked.iter_mut().filter(|asked| asked.next <= now) {
            let transaction = *asked.transaction.get_or_insert_with(|| transactions.next());
            questions.push((asked.server, binding_request(transaction)));
            asked.tries += 1;
            if asked.tries >= TRIES_MAX {
                (asked.tries, asked.transaction) = (0, None);
                asked.seen = None;
                asked.next = now + KEEP_ALIVE;
            } else {
                asked.next = now + RETRY * (1 << (asked.tries - 1));
            }
        }
        questions
    }

    /// A relay that may be asked: if there is room, or one of those asked is dumb.
    fn take_server(&mut self, server: SocketAddr, now: Instant) {
        if self.asked.iter().any(|asked| asked.server == server) {
            return;
        }
        let fresh = Asked { server, transaction: None, tries: 0, next: now, seen: None };
        if self.asked.len() < SERVERS_MAX {
            self.asked.push(fresh);
            return;
        }
        let dumb = |asked: &&mut Asked| asked.seen.is_none() && asked.tries == 0 && asked.next > now;
        if let Some(dumb) = self.asked.iter_mut().find(dumb) {
            *dumb = fresh;
        }
    }

    /// Takes an answer; `None` if it was not asked for.
    pub(super) fn answered(&mut self, from: SocketAddr, answer: Answer, now: Instant) -> Option<Heard> {
        let fits = |asked: &&mut Asked| asked.server == from && asked.transaction == Some(answer.transaction);
        let asked = self.asked.iter_mut().find(fits)?;
        (asked.tries, asked.transaction) = (0, None);
        asked.next = now + KEEP_ALIVE;
        let Some(mapped) = answer.mapped else { return Some(Heard { new: None, varies: None }) };
        asked.seen = Some((mapped, now));
        let others = self.asked.iter().filter(|asked| asked.server != from);
        let other =
            others.filter_map(|asked| asked.seen).find(|(_, at)| now.saturating_duration_since(*at) < FRESH);
        // Only one server's word is told: with a NAT that maps by destination none helps more than another.
        let speaks = match self.told {
            None => true,
            Some((_, by)) => {
                by == from || self.asked.iter().all(|asked| asked.server != by || asked.seen.is_none())
            }
        };
        let new = (speaks && self.told.map(|(addr, _)| addr) != Some(mapped)).then_some(mapped);
        if speaks {
            self.told = Some((mapped, from));
        }
        Some(Heard { new, varies: other.map(|(addr, _)| addr != mapped) })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.asked.iter().map(|asked| asked.next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::start;

    const S: Duration = Duration::from_secs(1);

    fn server(n: u8) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, n], 3478))
    }

    fn answer(question: &[u8], mapped: u16) -> Answer {
        let message = stun_types::message::Message::from_bytes(question).unwrap();
        Answer {
            transaction: message.transaction_id(),
            binding: true,
            mapped: Some(SocketAddr::from(([198, 51, 100, 1], mapped))),
            refused: None,
            retry_after: None,
        }
    }

    #[test]
    fn a_change_is_told_and_a_second_servers_other_word_is_not() {
        let (now, mut ids) = (start(), Transactions::new(1));
        let mut reflexive = Reflexive::new();
        let servers = || [server(1), server(2), server(3)].into_iter();
        let asked = reflexive.questions(servers(), &mut ids, now);
        assert_eq!(asked.len(), SERVERS_MAX);
        let first = reflexive.answered(asked[0].0, answer(&asked[0].1, 5_000), now).unwrap();
        assert_eq!((first.new.map(|addr| addr.port()), first.varies), (Some(5_000), None));
        assert_eq!(reflexive.answered(asked[0].0, answer(&asked[0].1, 9), now), None, "only once");
        let second = reflexive.answered(asked[1].0, answer(&asked[1].1, 6_000), now).unwrap();
        assert_eq!(second, Heard { new: None, varies: Some(true) });
        let later = now + 15 * S;
        let asked = reflexive.questions(servers(), &mut ids, later);
        let changed = reflexive.answered(asked[0].0, answer(&asked[0].1, 5_001), later).unwrap();
        assert_eq!(changed.new.map(|addr| addr.port()), Some(5_001));
    }

    #[test]
    fn an_answer_from_elsewhere_or_to_nothing_is_not_believed() {
        let (now, mut ids) = (start(), Transactions::new(1));
        let mut reflexive = Reflexive::new();
        let asked = reflexive.questions([server(1)].into_iter(), &mut ids, now);
        assert_eq!(reflexive.answered(server(9), answer(&asked[0].1, 1), now), None);
        let forged = Answer { transaction: Transactions::new(2).next(), ..answer(&asked[0].1, 1) };
        assert_eq!(reflexive.answered(server(1), forged, now), None);
    }

    #[test]
    fn a_dumb_server_is_asked_six_times_and_makes_room() {
        let (mut now, mut ids) = (start(), Transactions::new(1));
        let mut reflexive = Reflexive::new();
        let mut count = 0;
        for _ in 0..100 {
            count += reflexive.questions([server(1), server(2)].into_iter(), &mut ids, now).len();
            now += Duration::from_millis(100);
        }
        assert_eq!(count, 2 * usize::from(TRIES_MAX));
        let asked = reflexive.questions([server(3)].into_iter(), &mut ids, now);
        assert_eq!(asked[0].0, server(3));
    }
}
