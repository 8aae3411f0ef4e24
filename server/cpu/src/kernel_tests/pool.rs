//! The threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::threads::{Threads, Tiles, WorkerPanicked};

#[test]
fn every_tile_is_done_once_however_many_threads_come() {
    for count in [1, 2, 8] {
        let mut threads = Threads::new(count);
        for round in 0..200 {
            let done: Vec<AtomicUsize> = (0..37).map(|_| AtomicUsize::new(0)).collect();
            let parts = [1, count, 3][round % 3];
            let work = Tiles::split(done.len(), 1 + round % 4, parts);
            let region = |thread: usize| {
                while let Some(run) = work.take(thread) {
                    for tile in run {
                        done[tile].fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            threads.run(&region).unwrap();
            assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1));
            if round % 50 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(2)); // workers fall asleep
            }
        }
    }
}

#[test]
fn a_panic_of_a_worker_is_told_and_the_pool_works_on() {
    let mut threads = Threads::new(2);
    let came = AtomicUsize::new(0);
    let region = |index: usize| {
        if index == 0 {
            while came.load(Ordering::Acquire) == 0 {
                std::thread::yield_now(); // until the worker is here, for nobody waits for it otherwise
            }
            return;
        }
        came.store(1, Ordering::Release);
        panic!("a worker's panic");
    };
    assert_eq!(threads.run(&region), Err(WorkerPanicked));
    assert_eq!(threads.run(&|_| {}), Ok(()));
}
