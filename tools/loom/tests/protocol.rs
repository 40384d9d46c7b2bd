//! Every order of events in small uses of the pool.
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering,
};

use loom::sync::{Arc, atomic::AtomicUsize};
use chalot_loom::{UnsafeCell, pool::Pool};

/// Tries all orders of events with at most so many preemptions: more find nothing in protocols of this size (Musuvathi and
/// Qadeer 2007), and take days.
fn check(preemptions: usize, case: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(case);
}

/// Runs `tasks` tasks, which count themselves in memory that only the pool orders.
fn run(pool: &Pool, tasks: usize) {
    struct Cells(Vec<UnsafeCell<usize>>);
    // SAFETY: each task writes its own cell; the caller reads when all are done. Loom says if that is not so.
    unsafe impl Sync for Cells {}
    let cells = Cells((0..tasks).map(|_| UnsafeCell::new(0)).collect());
    let all = &cells;
    pool.run(tasks, &move |task| all.0[task].with_mut(|count| unsafe { *count += 1 }));
    for cell in &cells.0 {
        assert_eq!(cell.with(|count| unsafe { *count }), 1);
    }
}

/// One operation after the other, workers spinning or parked, and the end of the pool.
#[test]
fn operations_in_a_row() {
    check(3, || {
        let pool = Pool::new(2);
        run(&pool, 2);
        run(&pool, 2);
    });
}

#[test]
fn two_workers() {
    check(2, || {
        let pool = Pool::new(3);
        run(&pool, 3);
    });
}

#[test]
fn workers_that_stay_awake() {
    check(3, || {
        let pool = Pool::new(2);
        let awake = pool.stay_awake();
        run(&pool, 2);
        drop(awake);
        run(&pool, 2);
    });
}

/// The pool ends while its workers are on their way to park.
#[test]
fn an_end_without_work() {
    check(3, || drop(Pool::new(3)));
}

/// Two callers at once: one has the pool, the other works alone, and neither waits for the other.
#[test]
fn two_callers() {
    check(2, || {
        let pool = Arc::new(Pool::new(2));
        let other = loom::thread::spawn({
            let pool = pool.clone();
            move || run(&pool, 2)
        });
        run(&pool, 2);
        other.join().unwrap();
    });
}

#[test]
fn a_panic_reaches_the_caller() {
    check(2, || {
        let pool = Pool::new(2);
        let ran = Arc::new(AtomicUsize::new(0));
        let counted = ran.clone();
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.run(2, &move |task| {
                counted.fetch_add(1, Ordering::Relaxed);
                // Without the hook's message, of which there would be thousands.
                if task == 1 {
                    std::panic::resume_unwind(Box::new("task 1"));
                }
            });
        }));
        assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "task 1");
        assert_eq!(ran.load(Ordering::Relaxed), 2);
        run(&pool, 2);
    });
}
