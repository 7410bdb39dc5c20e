//! Filling batches allocates nothing once it runs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use kessen_data::{Augment, Loader, data};

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

#[test]
fn steady_state_filling_allocates_nothing() {
    let digits = data::digits().unwrap();
    let affine =
        Augment::Affine { rotate: 8.0, scale: 0.1, shear: 3.0, shift: 0.5, border: Default::default() };
    let elastic = Augment::Elastic { pixels: 0.5, cells: 3, border: Default::default() };
    let mut loader = Loader::new(&digits.train, 64).unwrap().shuffle(1).augment(&[affine, elastic]).unwrap();
    let mut batch = loader.batch().unwrap();
    loader.fill(0, 0, &mut batch).unwrap();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for epoch in 0..3 {
        for step in 0..loader.steps_per_epoch() {
            loader.fill(epoch, step, &mut batch).unwrap();
        }
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "direct");

    let mut ahead = loader.prefetch(1, 0, 0).unwrap();
    for _ in 0..70 {
        ahead.next().unwrap();
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..200 {
        ahead.next().unwrap();
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "ahead");
}
