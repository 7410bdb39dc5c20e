//! Batches filled ahead of their use, by threads of their own.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::{Batch, Error, Loader, Result};

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
    lanes: Vec<Lane>,
    /// The lane that the next batch comes from.
    turn: usize,
    /// The batch lent out last and the lane that it goes back to.
    lent: Option<(usize, Batch)>,
    steps_per_epoch: usize,
}

#[derive(Debug)]
struct Lane {
    /// `None` once the lane is being closed.
    empty: Option<SyncSender<Batch>>,
    full: Receiver<Result<Batch>>,
    worker: Option<JoinHandle<()>>,
}

impl Prefetch {
    pub(crate) fn start(loader: Loader, workers: usize, epoch: u64, step: usize) -> Result<Self> {
        let steps_per_epoch = loader.steps_per_epoch();
        if step >= steps_per_epoch {
            return Err(Error::option("step", step, format!("below {steps_per_epoch}")));
        }
        let workers = workers.max(1);
        let lanes = (0..workers)
            .map(|w| Lane::open(loader.clone(), workers, (epoch, step + w)))
            .collect::<Result<_>>()?;
        Ok(Self { lanes, turn: 0, lent: None, steps_per_epoch })
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
        if let Some((lane, batch)) = self.lent.take()
            && let Some(empty) = &self.lanes[lane].empty
        {
            // A worker that has ended takes nothing back; its last result says why.
            let _ = empty.send(batch);
        }
        let turn = self.turn;
        let stopped = Error::Stopped { hint: "; a batch could not be made, see the first error" };
        let batch = self.lanes[turn].full.recv().unwrap_or(Err(stopped))?;
        self.turn = (turn + 1) % self.lanes.len();
        Ok(&self.lent.insert((turn, batch)).1)
    }
}

impl Lane {
    fn open(mut loader: Loader, stride: usize, (mut epoch, mut step): (u64, usize)) -> Result<Self> {
        let (empty, to_fill) = sync_channel(2);
        let (filled, full) = sync_channel(2);
        for _ in 0..2 {
            let _ = empty.send(loader.batch()?);
        }
        let work = move || {
            let steps = loader.steps_per_epoch();
            while let Ok(mut batch) = to_fill.recv() {
                epoch += (step / steps) as u64;
                step %= steps;
                let result = loader.fill(epoch, step, &mut batch).map(|()| batch);
                let failed = result.is_err();
                if filled.send(result).is_err() || failed {
                    return;
                }
                step += stride;
            }
        };
        let spawned = Builder::new().name("kessen-prefetch".to_owned()).spawn(work);
        let worker = spawned.map_err(|_| Error::Stopped { hint: ": no thread could be started" })?;
        Ok(Self { empty: Some(empty), full, worker: Some(worker) })
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        for lane in &mut self.lanes {
            lane.empty = None;
        }
        for mut lane in self.lanes.drain(..) {
            let worker = lane.worker.take();
            // The receiver goes first: a worker that waits to hand over a batch wakes up and ends.
            drop(lane);
            if let Some(worker) = worker {
                let _ = worker.join();
            }
        }
    }
}
