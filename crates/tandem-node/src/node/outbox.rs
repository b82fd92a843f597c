//! Commands on their way to a swarm's task: none is lost because the task is busy for a moment.

use std::collections::VecDeque;

use tokio::sync::mpsc;

/// Commands that wait here when the task's queue is full; a task this far behind is stuck.
const WAITING_MAX: usize = 4096;
/// A full queue is tried again after this long, in milliseconds.
const AGAIN_MS: u64 = 10;

/// The sending end of a bounded channel that never waits and keeps the order.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    queue: mpsc::Sender<T>,
    waiting: VecDeque<T>,
    again_ms: Option<u64>,
}

impl<T> Outbox<T> {
    pub(crate) fn new(queue: mpsc::Sender<T>) -> Self {
        Self { queue, waiting: VecDeque::new(), again_ms: None }
    }

    /// Sends in order. What does not fit waits for [`Self::flush`]; false when even that is full or the task is gone.
    pub(crate) fn send(&mut self, item: T, now_ms: u64) -> bool {
        if self.waiting.len() >= WAITING_MAX || self.queue.is_closed() {
            return false;
        }
        self.waiting.push_back(item);
        self.flush(now_ms);
        true
    }

    /// Hands over as much as the task takes.
    pub(crate) fn flush(&mut self, now_ms: u64) {
        self.again_ms = None;
        while let Some(item) = self.waiting.pop_front() {
            match self.queue.try_send(item) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(item)) => {
                    self.waiting.push_front(item);
                    self.again_ms = Some(now_ms + AGAIN_MS);
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => self.waiting.clear(),
            }
        }
    }

    /// When to call [`Self::flush`], in the clock's milliseconds.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.again_ms
    }

    /// The channel itself, for what may be refused (a question) or must wait (the end).
    pub(crate) fn queue(&self) -> &mpsc::Sender<T> {
        &self.queue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_delays_and_loses_nothing() {
        let (queue, mut task) = mpsc::channel(2);
        let mut outbox = Outbox::new(queue);
        for item in 0..7 {
            assert!(outbox.send(item, 100));
        }
        assert_eq!(outbox.poll_timeout(), Some(110));
        let mut come = Vec::new();
        for now_ms in [110, 120, 130, 140] {
            while let Ok(item) = task.try_recv() {
                come.push(item);
            }
            outbox.flush(now_ms);
        }
        assert_eq!(come, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(outbox.poll_timeout(), None);
    }

    #[test]
    fn a_stuck_task_costs_a_bounded_amount_and_a_gone_one_nothing() {
        let (queue, task) = mpsc::channel(1);
        let mut outbox = Outbox::new(queue);
        let taken = (0..2 * WAITING_MAX).filter(|item| outbox.send(*item, 0)).count();
        assert_eq!(taken, WAITING_MAX + 1);
        drop(task);
        outbox.flush(10);
        assert_eq!((outbox.waiting.len(), outbox.poll_timeout()), (0, None));
        assert!(!outbox.send(1, 20));
    }
}
