//! A fixed pool of threads: one broadcast per step, a short spin, then sleep.
//!
//! [`parallel_for`] runs `tasks` calls of a closure. What a task is must follow from the size of the work alone,
//! never from [`count`], so that results are the same bits for any number of threads. Each thread starts on its own
//! contiguous share of the tasks (so that consecutive steps find their data in the same core's cache) and then takes
//! what others have left. A worker that wakes late is not waited for.
//!
//! A call inside a task, on one thread, with one task, or while another thread of the program holds the pool, runs
//! serially in the caller.

use crate::split::share;
use crate::{Error, isa};
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// The largest number of threads supported.
pub const MAX: usize = 128;

/// How long an idle worker looks for the next step before it sleeps.
const SPIN: Duration = Duration::from_micros(20);

static COUNT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static WORKER: Cell<usize> = const { Cell::new(0) };
    static BUSY: Cell<bool> = const { Cell::new(false) };
    static COUNT_HERE: Cell<usize> = const { Cell::new(0) };
}

/// Reads `KESSEN_THREADS` (default: the CPUs available) unless [`set_count`] was called before, and returns
/// [`count`].
///
/// # Errors
/// `KESSEN_THREADS` is not a number from 1 to [`MAX`].
pub fn init() -> Result<usize, Error> {
    static CHOSEN: OnceLock<Result<usize, Error>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| match std::env::var("KESSEN_THREADS") {
        Ok(text) if !text.is_empty() => match text.parse() {
            Ok(n) if (1..=MAX).contains(&n) => Ok(n),
            _ => Err(Error::BadThreadCount { found: text, max: MAX }),
        },
        _ => Ok(std::thread::available_parallelism().map_or(1, |n| n.get()).min(MAX)),
    });
    let n = chosen.clone()?;
    match COUNT.compare_exchange(0, n, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => Ok(n),
        Err(already) => Ok(already),
    }
}

/// Number of threads a step called from here may use; [`worker`] is always below it.
///
/// # Panics
/// If `KESSEN_THREADS` is malformed; a program that calls [`init`] at its start gets that as an error instead.
pub fn count() -> usize {
    match (COUNT_HERE.get(), COUNT.load(Ordering::Relaxed)) {
        (0, 0) => init().unwrap_or_else(|error| panic!("{error}")),
        (0, n) => n,
        (here, _) => here,
    }
}

/// Sets the number of threads for the process, limited to `1..=MAX`. Scratch sizes computed before may no longer
/// suffice.
pub fn set_count(threads: usize) {
    COUNT.store(threads.clamp(1, MAX), Ordering::Relaxed);
}

/// Runs `f` with [`count`] being `threads` (limited to `1..=MAX`) for the steps it calls from this thread.
pub fn with_count<R>(threads: usize, f: impl FnOnce() -> R) -> R {
    let _restore = Restore(&COUNT_HERE, COUNT_HERE.replace(threads.clamp(1, MAX)));
    f()
}

/// Index of the thread that runs the current task, below the [`count`] of the step's caller: the slot of per-thread
/// scratch it owns.
pub fn worker() -> usize {
    WORKER.get()
}

/// Puts a thread-local value back, also when unwinding.
struct Restore<T: Copy + 'static>(&'static std::thread::LocalKey<Cell<T>>, T);

impl<T: Copy> Drop for Restore<T> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}

/// Calls `f(0)`, …, `f(tasks - 1)`, each once, in any order and on up to [`count`] threads, and returns when all are
/// done. Allocates nothing once the pool's threads exist.
///
/// # Panics
/// With the payload of a task that panicked, after all threads have left the step; some tasks may not have run.
pub fn parallel_for(tasks: usize, f: impl Fn(usize) + Sync) {
    let threads = count().min(tasks);
    if threads <= 1 || BUSY.get() {
        return (0..tasks).for_each(f);
    }
    let mut pool = match POOL.try_lock() {
        Ok(pool) => pool,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return (0..tasks).for_each(f),
    };
    let threads = pool.grow(threads);
    if threads <= 1 {
        drop(pool);
        return (0..tasks).for_each(f);
    }
    pool.broadcast(threads, tasks, &f);
}

/// [`parallel_for`], or in the caller's thread where `serial`: below the work that threads pay for.
pub(crate) fn parallel_unless(serial: bool, tasks: usize, f: impl Fn(usize) + Sync) {
    if serial { (0..tasks).for_each(f) } else { parallel_for(tasks, f) }
}

/// Splits `0..len` into pieces of `grain` elements (the last may be shorter) and calls `f` with each in parallel.
/// The split follows from `len` and `grain` only. `grain` must be positive.
pub fn parallel_chunks(len: usize, grain: usize, f: impl Fn(Range<usize>) + Sync) {
    parallel_for(len.div_ceil(grain), |task| f(task * grain..((task + 1) * grain).min(len)));
}

/// A mutable slice whose disjoint parts are handed to different tasks.
pub struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: parts are only handed out by unsafe methods whose callers promise that no two live ones overlap.
unsafe impl<T: Send> Sync for Shared<'_, T> {}
// SAFETY: as above; it is a `&mut [T]` in disguise.
unsafe impl<T: Send> Send for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// Borrows `slice` for the whole step.
    pub fn new(slice: &'a mut [T]) -> Self {
        Shared { start: slice.as_mut_ptr(), len: slice.len(), owner: PhantomData }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first element's address, for kernels that write strided parts.
    pub fn as_ptr(&self) -> *mut T {
        self.start
    }

    /// The elements `range`.
    ///
    /// # Safety
    /// No other live part may overlap `range`.
    ///
    /// # Panics
    /// If `range` is not inside the slice.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} elements", self.len);
        // SAFETY: in bounds by the assertion, unaliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// An address that tasks may share; what they do with it is their unsafe code's business.
#[derive(Clone, Copy)]
pub(crate) struct Address<T>(pub *mut T);

// SAFETY: only unsafe code can use the address.
unsafe impl<T> Sync for Address<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Address<T> {}

impl<T> Address<T> {
    /// The address.
    pub fn get(&self) -> *mut T {
        self.0
    }
}

/// The number of the step (high half), whether it is closed to newcomers, and how many workers are inside (low bits).
static GATE: AtomicU64 = AtomicU64::new(CLOSED);
const CLOSED: u64 = 1 << 31;
const INSIDE: u64 = CLOSED - 1;

/// The step being run; written while the gate is closed and nobody is inside.
struct StepCell(UnsafeCell<Option<Step>>);
// SAFETY: written only by the holder of `POOL` while `GATE` is closed and empty; read only between entering and
// leaving `GATE`.
unsafe impl Sync for StepCell {}
static STEP: StepCell = StepCell(UnsafeCell::new(None));

#[derive(Clone, Copy)]
struct Step {
    /// Calls the closure behind `data` with a task's number.
    call: unsafe fn(*const (), usize),
    data: *const (),
    tasks: usize,
    threads: usize,
    /// What [`count`] is for the step's caller.
    count: usize,
    isa: Option<isa::Isa>,
}

/// What one thread of the pool shares with the others, on cache lines of its own.
#[repr(align(128))]
struct Slot {
    /// The next task of this thread's share.
    next: AtomicUsize,
    /// The last step announced to this thread.
    announced: AtomicU64,
    asleep: AtomicBool,
}

static SLOTS: [Slot; MAX] = [const {
    Slot { next: AtomicUsize::new(0), announced: AtomicU64::new(0), asleep: AtomicBool::new(false) }
}; MAX];

static POOL: Mutex<Pool> = Mutex::new(Pool { workers: Vec::new(), step: 0 });
static PANIC: Mutex<Option<Box<dyn Any + Send>>> = Mutex::new(None);

struct Pool {
    workers: Vec<Thread>,
    step: u64,
}

impl Pool {
    /// Makes sure of `threads - 1` workers where the system allows, and returns the number of threads to use.
    fn grow(&mut self, threads: usize) -> usize {
        while self.workers.len() + 1 < threads {
            let index = self.workers.len() + 1;
            let announced = SLOTS[index].announced.load(Ordering::Relaxed);
            let name = format!("kessen-{index}");
            match std::thread::Builder::new().name(name).spawn(move || work(index, announced)) {
                Ok(handle) => self.workers.push(handle.thread().clone()),
                Err(_) => break,
            }
        }
        threads.min(self.workers.len() + 1)
    }

    fn broadcast<F: Fn(usize) + Sync>(&mut self, threads: usize, tasks: usize, f: &F) {
        unsafe fn call<F: Fn(usize)>(data: *const (), task: usize) {
            // SAFETY: `data` is the `&F` of the broadcast, alive until the gate is closed and empty.
            unsafe { (*data.cast::<F>())(task) }
        }
        let data = (f as *const F).cast();
        let step =
            Step { call: call::<F>, data, tasks, threads, count: count(), isa: isa::current_override() };
        for (index, slot) in SLOTS[..threads].iter().enumerate() {
            slot.next.store(share(tasks, threads, index).start, Ordering::Relaxed);
        }
        // SAFETY: this thread holds the pool, the gate is closed and nobody is inside.
        unsafe { *STEP.0.get() = Some(step) };
        self.step = (self.step + 1) & (u64::MAX >> 32);
        GATE.store(self.step << 32, Ordering::Release);
        for (slot, worker) in SLOTS[1..threads].iter().zip(&self.workers) {
            slot.announced.store(self.step, Ordering::SeqCst);
            if slot.asleep.load(Ordering::SeqCst) {
                worker.unpark();
            }
        }
        run_share(&step, 0);
        close();
        let payload = PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(payload) = payload {
            resume_unwind(payload);
        }
    }
}

/// Lets no more workers in and waits for those inside.
fn close() {
    let mut rounds = 0u32;
    let mut inside = GATE.fetch_or(CLOSED, Ordering::Acquire) & INSIDE;
    while inside != 0 {
        match rounds {
            0..1000 => std::hint::spin_loop(),
            1000..1100 => std::thread::yield_now(),
            _ => std::thread::park_timeout(Duration::from_micros(50)),
        }
        rounds += 1;
        inside = GATE.load(Ordering::Acquire) & INSIDE;
    }
}

/// Enters the gate if `step` still runs.
fn enter(step: u64) -> bool {
    let mut gate = GATE.load(Ordering::Relaxed);
    while gate >> 32 == step && gate & CLOSED == 0 {
        match GATE.compare_exchange_weak(gate, gate + 1, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => gate = now,
        }
    }
    false
}

/// A worker's life.
fn work(index: usize, mut seen: u64) {
    WORKER.set(index);
    BUSY.set(true);
    let slot = &SLOTS[index];
    loop {
        seen = wait(slot, seen);
        if enter(seen) {
            // SAFETY: inside the gate, so the step is set and stays until we leave.
            if let Some(step) = unsafe { *STEP.0.get() } {
                let _isa = isa::replace(step.isa);
                let _count = Restore(&COUNT_HERE, COUNT_HERE.replace(step.count));
                run_share(&step, index);
            }
            GATE.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Waits for a step other than `seen`: spins for [`SPIN`], then sleeps.
fn wait(slot: &Slot, seen: u64) -> u64 {
    let start = Instant::now();
    loop {
        for _ in 0..32 {
            let step = slot.announced.load(Ordering::Acquire);
            if step != seen {
                return step;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            break;
        }
    }
    slot.asleep.store(true, Ordering::SeqCst);
    loop {
        let step = slot.announced.load(Ordering::SeqCst);
        if step != seen {
            slot.asleep.store(false, Ordering::Relaxed);
            return step;
        }
        std::thread::park();
    }
}

/// Runs tasks of `index`'s own share and then what the others have left.
fn run_share(step: &Step, index: usize) {
    let _busy = Restore(&BUSY, BUSY.replace(true));
    let _worker = Restore(&WORKER, WORKER.replace(index));
    let run = || {
        for offset in 0..step.threads {
            let owner = (index + offset) % step.threads;
            let end = share(step.tasks, step.threads, owner).end;
            let next = &SLOTS[owner].next;
            while next.load(Ordering::Relaxed) < end {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task < end {
                    // SAFETY: `data` is what `call` was made for; see `broadcast`.
                    unsafe { (step.call)(step.data, task) }
                }
            }
        }
    };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
        PANIC.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn every_task_runs_once_for_any_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            for tasks in [0, 1, 2, 3, 7, 64, 1000] {
                let hits: Vec<AtomicU32> = (0..tasks).map(|_| AtomicU32::new(0)).collect();
                with_count(threads, || {
                    for _ in 0..50 {
                        parallel_for(tasks, |task| {
                            assert!(worker() < threads);
                            hits[task].fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
                assert!(
                    hits.iter().all(|h| h.load(Ordering::Relaxed) == 50),
                    "{threads} threads {tasks} tasks"
                );
            }
        }
    }

    #[test]
    fn nested_steps_run_serially_and_keep_their_worker() {
        with_count(2, || {
            parallel_for(8, |_| {
                let outer = worker();
                parallel_for(8, |_| assert_eq!(worker(), outer));
            });
        });
        assert_eq!(worker(), 0);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        with_count(2, || {
            let caught = catch_unwind(|| parallel_for(100, |task| assert!(task != 37, "task 37 failed")));
            let text = *caught.unwrap_err().downcast::<&str>().unwrap();
            assert!(text.contains("task 37"), "{text}");
            let sum = AtomicUsize::new(0);
            parallel_for(100, |task| {
                sum.fetch_add(task, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 4950);
        });
    }

    #[test]
    fn workers_take_over_the_forced_isa() {
        isa::with(isa::Isa::Scalar, || {
            with_count(2, || {
                parallel_for(200, |_| {
                    assert_eq!(isa::Isa::active(), isa::Isa::Scalar);
                    std::thread::sleep(Duration::from_micros(20));
                })
            })
        });
    }

    #[test]
    fn chunks_cover_the_range_and_parts_are_disjoint() {
        let mut data = vec![0u32; 1003];
        let shared = Shared::new(&mut data);
        with_count(2, || {
            parallel_chunks(1003, 64, |range| {
                // SAFETY: chunks are disjoint.
                let part = unsafe { shared.part(range.clone()) };
                part.iter_mut().zip(range).for_each(|(value, index)| *value += index as u32);
            })
        });
        assert!(data.iter().enumerate().all(|(index, &value)| value == index as u32));
    }
}
