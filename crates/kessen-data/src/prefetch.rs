//! Batches filled ahead of their use, by threads of their own.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::{Batch, Error, Loader, Result};

/// Batches that go to and fro between one worker and the consumer.
const BATCHES: usize = 2;

/// Batches filled ahead; made by [`Loader::prefetch`].
///
/// Worker w of n fills batches w, w + n, w + 2n, … counted from the start, and they are taken in turn, so the batches
/// and their order are those of [`Loader::fill`] at any number of workers. Two batches per worker go to and fro; none
/// is allocated after the start.
///
/// ```
/// use kessen_data::{Loader, data};
///
/// let digits = data::digits()?;
/// let loader = Loader::new(&digits.train, 128)?.shuffle(1);
/// let mut ahead = loader.prefetch(1, 0, 29)?; // resumes at step 29 of epoch 0, its last
/// assert_eq!((ahead.next()?.epoch(), ahead.next()?.epoch()), (0, 1));
/// # Ok::<(), kessen_data::Error>(())
/// ```
#[derive(Debug)]
pub struct Prefetch {
    lanes: Vec<Arc<Lane>>,
    workers: Vec<JoinHandle<()>>,
    /// The lane that the next batch comes from.
    turn: usize,
    /// The batch lent out last and the lane that it goes back to.
    lent: Option<(usize, Batch)>,
    steps_per_epoch: usize,
}

impl Prefetch {
    pub(crate) fn start(loader: Loader, workers: usize, epoch: u64, step: usize) -> Result<Self> {
        let steps_per_epoch = loader.steps_per_epoch();
        if step >= steps_per_epoch {
            return Err(Error::option("step", step, format!("below {steps_per_epoch}")));
        }
        let stride = workers.max(1);
        let mut ahead = Self { lanes: Vec::new(), workers: Vec::new(), turn: 0, lent: None, steps_per_epoch };
        for w in 0..stride {
            let lane = Arc::new(Lane::new(&loader)?);
            let mut worker =
                Worker { loader: loader.clone(), lane: lane.clone(), stride, epoch, step: step + w };
            ahead.lanes.push(lane);
            let spawned = Builder::new().name("kessen-prefetch".to_owned()).spawn(move || worker.run());
            // Those that run already end when `ahead` is dropped.
            let spawned = spawned.map_err(|_| Error::Stopped { hint: ": no thread could be started" })?;
            ahead.workers.push(spawned);
        }
        Ok(ahead)
    }

    /// Batches in an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.steps_per_epoch
    }

    /// The next batch, running on into the next epoch without end; waits for it where it is not ready.
    ///
    /// # Errors
    /// Those of [`Loader::fill`], each once and in its place; then [`Error::Stopped`].
    #[expect(clippy::should_implement_trait, reason = "the batch is lent, which `Iterator` cannot express")]
    pub fn next(&mut self) -> Result<&Batch> {
        if let Some((lane, batch)) = self.lent.take() {
            self.lanes[lane].give_back(batch);
        }
        let turn = self.turn;
        let batch = self.lanes[turn].take_full()?;
        self.turn = (turn + 1) % self.lanes.len();
        Ok(&self.lent.insert((turn, batch)).1)
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        for lane in &self.lanes {
            lane.close();
        }
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so on standard error.
            let _ = worker.join();
        }
    }
}

/// What one worker and the consumer hand each other. A channel of the standard library would do the same but
/// allocates when a side has to wait.
#[derive(Debug)]
struct Lane {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    empty: Vec<Batch>,
    full: VecDeque<Result<Batch>>,
    /// One side has gone.
    closed: bool,
}

impl Lane {
    fn new(loader: &Loader) -> Result<Self> {
        let empty = (0..BATCHES).map(|_| loader.batch()).collect::<Result<_>>()?;
        // One more for the error that a worker ends with.
        let full = VecDeque::with_capacity(BATCHES + 1);
        Ok(Self { state: Mutex::new(State { empty, full, closed: false }), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn give_back(&self, batch: Batch) {
        self.lock().empty.push(batch);
        self.changed.notify_all();
    }

    fn take_full(&self) -> Result<Batch> {
        let mut state = self.lock();
        loop {
            if let Some(result) = state.full.pop_front() {
                return result;
            }
            if state.closed {
                return Err(Error::Stopped { hint: "; a batch could not be made, see the first error" });
            }
            state = self.wait(state);
        }
    }

    fn take_empty(&self) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(batch) = state.empty.pop() {
                return Some(batch);
            }
            state = self.wait(state);
        }
    }

    fn hand_over(&self, result: Result<Batch>) {
        self.lock().full.push_back(result);
        self.changed.notify_all();
    }
}

struct Worker {
    loader: Loader,
    lane: Arc<Lane>,
    stride: usize,
    epoch: u64,
    step: usize,
}

impl Worker {
    fn run(&mut self) {
        let steps = self.loader.steps_per_epoch();
        while let Some(mut batch) = self.lane.take_empty() {
            self.epoch += (self.step / steps) as u64;
            self.step %= steps;
            let result = self.loader.fill(self.epoch, self.step, &mut batch).map(|()| batch);
            let failed = result.is_err();
            self.lane.hand_over(result);
            if failed {
                return;
            }
            self.step += self.stride;
        }
    }
}

impl Drop for Worker {
    /// Also when a source panics: the consumer must not wait for ever.
    fn drop(&mut self) {
        self.lane.close();
    }
}
