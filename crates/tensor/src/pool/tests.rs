use std::{
    cell::UnsafeCell,
    collections::HashSet,
    sync::{Barrier, atomic::AtomicU32},
    time::Duration,
};

use super::*;

/// Runs `tasks` tasks and checks that each ran once.
fn check(pool: &Pool, tasks: usize) {
    let ran: Vec<AtomicU32> = (0..tasks).map(|_| AtomicU32::new(0)).collect();
    pool.run(tasks, &|task| {
        ran[task].fetch_add(1, Ordering::Relaxed);
    });
    assert!(ran.iter().all(|n| n.load(Ordering::Relaxed) == 1));
}

#[test]
fn every_task_runs_once() {
    for threads in [0, 1, 2, 3, 8] {
        let pool = Pool::new(threads);
        assert_eq!(pool.threads(), threads.max(1));
        for tasks in [0, 1, 2, 3, 7, 100] {
            for _ in 0..50 {
                check(&pool, tasks);
            }
        }
    }
}

#[test]
fn many_short_jobs_and_pauses() {
    let pool = Pool::new(2);
    let mut total = 0;
    let sum = AtomicUsize::new(0);
    for job in 0..20_000 {
        let tasks = job % 5;
        total += tasks;
        pool.run(tasks, &|_| {
            sum.fetch_add(1, Ordering::Relaxed);
        });
        if job % 4000 == 0 {
            thread::sleep(Duration::from_millis(2)); // the workers park
        }
    }
    assert_eq!(sum.into_inner(), total);
}

#[test]
fn writes_are_visible_to_the_caller() {
    let pool = Pool::new(3);
    for round in 0..2000_usize {
        let cells: Vec<UnsafeCell<usize>> = (0..9).map(|_| UnsafeCell::new(0)).collect();
        struct Cells<'a>(&'a [UnsafeCell<usize>]);
        // SAFETY: each task below writes its own cell.
        unsafe impl Sync for Cells<'_> {}
        impl Cells<'_> {
            fn set(&self, index: usize, value: usize) {
                // SAFETY: each task below writes its own cell.
                unsafe { *self.0[index].get() = value }
            }
        }
        let shared = Cells(&cells);
        pool.run(cells.len(), &|task| shared.set(task, round + task));
        for (task, cell) in cells.into_iter().enumerate() {
            assert_eq!(cell.into_inner(), round + task);
        }
    }
}

#[test]
fn each_thread_begins_with_its_own_part() {
    let pool = Pool::new(2);
    let (barrier, others) = (Barrier::new(2), Mutex::new(Vec::new()));
    let caller = thread::current().id();
    for _ in 0..50 {
        pool.run(6, &|task| {
            // The first tasks of both parts wait for each other, so each thread holds one.
            if task % 3 == 0 {
                barrier.wait();
                if thread::current().id() != caller {
                    others.lock().unwrap().push(task);
                }
            }
        });
    }
    assert_eq!(others.into_inner().unwrap(), [3; 50]);
}

#[test]
fn all_threads_take_part() {
    let pool = Pool::new(3);
    let seen = Mutex::new(HashSet::new());
    let barrier = Barrier::new(3);
    // Each task waits for the other two, so three threads must hold one each.
    pool.run(3, &|_| {
        barrier.wait();
        seen.lock().unwrap().insert(thread::current().id());
    });
    assert_eq!(seen.into_inner().unwrap().len(), 3);
}

#[test]
fn nested_runs_finish() {
    let pool = Pool::new(4);
    let sum = AtomicUsize::new(0);
    for _ in 0..200 {
        pool.run(6, &|outer| {
            pool.run(5, &|inner| {
                pool.run(2, &|_| {
                    sum.fetch_add(outer * inner, Ordering::Relaxed);
                });
            });
        });
    }
    assert_eq!(sum.into_inner(), 200 * 2 * 15 * 10);
}

#[test]
fn two_pools_may_nest() {
    let (outer, inner) = (Pool::new(2), Pool::new(3));
    let sum = AtomicUsize::new(0);
    outer.run(8, &|_| {
        inner.run(8, &|_| {
            sum.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(sum.into_inner(), 64);
}

#[test]
fn several_callers_at_once() {
    let pool = Pool::new(3);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..500 {
                    check(&pool, round % 17);
                }
            });
        }
    });
}

#[test]
fn a_panic_reaches_the_caller_after_all_tasks() {
    for threads in [1, 2, 4] {
        let pool = Pool::new(threads);
        for round in 0..50 {
            let ran = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(20, &|task| {
                    ran.fetch_add(1, Ordering::Relaxed);
                    assert!(task != round % 20, "task {task} fails");
                });
            }));
            let message = *result.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(message, format!("task {} fails", round % 20));
            assert_eq!(ran.into_inner(), 20);
            check(&pool, 9); // and the pool still works
        }
    }
}

#[test]
fn a_panic_in_a_nested_run_reaches_the_outer_caller() {
    let pool = Pool::new(2);
    let result = catch_unwind(AssertUnwindSafe(|| {
        pool.run(4, &|_| pool.run(4, &|inner| assert!(inner != 3)));
    }));
    assert!(result.is_err());
    check(&pool, 9);
}

#[test]
fn dropping_joins_busy_and_parked_workers() {
    for pause in [0, 1, 5] {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            check(&pool, 3);
            thread::sleep(Duration::from_millis(pause));
            drop(pool);
        }
    }
}

#[test]
fn the_number_of_threads_is_bounded() {
    assert_eq!(Pool::new(1).threads(), 1);
    assert!(Pool::new(64).threads() <= 64);
}

#[test]
fn workers_park_when_nobody_keeps_them_awake() {
    let pool = Pool::new(2);
    let parked = || pool.shared.parked[0].0.load(Ordering::Relaxed);
    for _ in 0..3 {
        let awake = pool.stay_awake();
        check(&pool, 10);
        thread::sleep(Duration::from_millis(1));
        check(&pool, 10);
        drop(awake);
        // However slow the machine, a worker without work parks in the end.
        while !parked() {
            thread::sleep(Duration::from_millis(1));
        }
    }
    // Nor does a guard that is never dropped keep a core hot.
    std::mem::forget(pool.stay_awake());
    check(&pool, 10);
    while !parked() {
        thread::sleep(Duration::from_millis(1));
    }
    check(&pool, 10);
}
