//! Training steps allocate nothing, and give the same bits at any number of threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kessen_data::data;
use kessen_engine::Backend;
use kessen_graph::Graph;
use kessen_train::{Observer, StepEvent, Trainer, adam};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts the allocations between the fifth step and the last but one of the first epoch.
#[derive(Default)]
struct Count {
    before: usize,
    found: usize,
}

impl Observer for Count {
    fn on_step(&mut self, event: &StepEvent) {
        let now = ALLOCATIONS.load(Ordering::Relaxed);
        match event.step {
            0..=5 => self.before = now,
            6..=28 => self.found = now - self.before,
            _ => {}
        }
    }
}

fn trainer() -> Trainer {
    let net = Graph::from_text(
        "image: input batch 1 8 8\n\
         conv c1 16 3x3 pad 1 | relu | conv c2 16 3x3 pad 1 | relu | max_pool 2 | flatten | dropout p 0.1\n\
         linear f1 32 | relu | linear f2 10",
    );
    Trainer::new(&net.unwrap()).optimizer(adam(5e-3)).batch(128).epochs(1).clip_norm(1.0).ema(0.9)
}

/// One test, so that no other one allocates meanwhile.
#[test]
fn a_step_allocates_nothing_and_threads_change_no_bit() {
    let digits = data::digits().unwrap();
    let run = |threads: usize, backend: Arc<dyn Backend>| {
        let mut count = Count::default();
        let fit = || trainer().backend(backend).fit_observed(&digits, &mut count).unwrap();
        let run = kessen_kernels::threads::with_count(threads, fit);
        let params: Vec<Vec<u8>> = run.params().iter().map(|(_, t)| t.bytes().to_vec()).collect();
        let losses: Vec<f64> = run.history.steps.iter().map(|s| s.loss).collect();
        (params, losses, run.test.unwrap(), count.found)
    };
    let one = run(1, Arc::new(kessen_engine::Cpu::new()));
    let two = run(2, Arc::new(kessen_engine::Cpu::new()));
    assert!(one.2.accuracy > 0.85, "{:?}", one.2);
    assert_eq!(one.1.len(), 29);
    assert!(one.0 == two.0 && one.1 == two.1 && one.2 == two.2, "two threads give other bits than one");
    assert_eq!((one.3, two.3), (0, 0), "allocations during 23 steps with one and two threads");
}
