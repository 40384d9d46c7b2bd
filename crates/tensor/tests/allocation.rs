//! Decoding allocates nothing: once its buffers have grown, a product touches no allocator, on any thread.
use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

use chalot_simd::Isa;
use chalot_tensor::{Activations, Exec, Format, Matrix, matmul};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_steady_state_allocates_nothing() {
    let (rows, cols) = (1000, 300);
    let data: Vec<f32> = (0..rows * cols).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
    for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::scalar()) {
        let exec = Exec::new(isa, 2);
        let formats = ["trit2/tensor", "trit5/128", "int8/row", "int4m/32", "f16", "f32"];
        let weights = formats.map(|format: &str| {
            let format: Format = format.parse().unwrap();
            Matrix::from_f32(&exec, format, rows, cols, &data).unwrap()
        });
        let mut x = Activations::new();
        let mut y = vec![0.0; 40 * rows];
        let mut step = |m: usize| {
            x.set(m, cols).copy_from_slice(&data[..m * cols]);
            for w in &weights {
                matmul(&exec, w, &mut x, &mut y[..m * rows]).unwrap();
            }
        };
        // Of five tokens some weights want lines where AMX is, and some quads: a form more than of forty.
        [40, 5].into_iter().for_each(&mut step);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for m in [1, 5, 40, 1, 13, 2, 5] {
            step(m);
        }
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "on {isa}");
    }
}
