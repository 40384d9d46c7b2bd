use super::*;

/// Three layers of four slots of 10 bytes.
fn residency(limit: u64, loads: bool) -> Residency {
    let mut residency = Residency::new(&vec![vec![10; 4]; 3], loads);
    residency.begin_pass(limit);
    residency
}

/// Does all there is to do; what was loaded and what was released.
fn work(residency: &mut Residency) -> (Vec<usize>, Vec<usize>) {
    let (mut loaded, mut released) = (Vec::new(), Vec::new());
    while let Some(action) = residency.next() {
        match action {
            Action::Load(slot) => {
                residency.loaded(slot);
                loaded.push(slot);
            }
            Action::Release(slot) => {
                residency.released(slot);
                released.push(slot);
            }
        }
    }
    assert!(!residency.has_work());
    (loaded, released)
}

/// Needs the slots of a layer, waits for them, and ends the layer.
fn compute(residency: &mut Residency, layer: usize, experts: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let slots: Vec<usize> = experts.iter().map(|&expert| residency.slot(layer, expert).unwrap()).collect();
    slots.iter().for_each(|&slot| {
        residency.need(slot);
    });
    let done = work(residency);
    assert!(slots.iter().all(|&slot| residency.is_ready(slot)));
    residency.end_layer(layer);
    done
}

#[test]
fn slots_are_those_of_the_layers() {
    let residency = Residency::new(&[vec![1, 2], vec![], vec![3]], true);
    assert_eq!((residency.slot(0, 1), residency.slot(2, 0)), (Some(1), Some(2)));
    for (layer, network) in [(0, 2), (1, 0), (2, 1), (3, 0), (0, usize::MAX)] {
        assert_eq!(residency.slot(layer, network), None);
    }
}

#[test]
fn what_is_needed_is_loaded_before_what_is_foretold() {
    let mut residency = residency(u64::MAX, true);
    assert!(residency.expect(8, true) && residency.expect(4, true) && !residency.expect(4, true));
    assert_eq!(residency.need(1), Found::Awaited);
    assert_eq!(work(&mut residency).0, [1, 8, 4]);
    assert_eq!((residency.need(1), residency.need(4)), (Found::Ready, Found::Ready));
    assert_eq!(residency.resident(), 30);
    // What was foretold and is needed before its turn comes first.
    residency.expect(5, true);
    residency.expect(6, true);
    residency.need(6);
    assert_eq!(work(&mut residency).0, [6, 5]);
}

#[test]
fn the_counters_add_up() {
    let mut residency = residency(u64::MAX, true);
    residency.expect(0, true);
    residency.expect(1, true);
    work(&mut residency);
    residency.expect(2, true); // foretold, and not loaded in time
    [0, 2, 3].iter().for_each(|&slot| {
        residency.need(slot);
        residency.need(slot); // counts once
    });
    work(&mut residency);
    residency.end_layer(0);
    let stats = residency.stats;
    assert_eq!((stats.in_time, stats.late, stats.misses, stats.hits), (1, 1, 1, 0));
    assert_eq!((stats.predicted_right, stats.predicted_wrong), (2, 1));
    assert_eq!((stats.bytes_prefetched, stats.bytes_demanded, stats.bytes_used), (20, 20, 10));
    residency.begin_pass(u64::MAX);
    compute(&mut residency, 0, &[0, 1, 3]);
    let stats = residency.stats;
    // Number 1 was read ahead in the pass before.
    assert_eq!((stats.hits, stats.in_time, stats.bytes_used), (2, 2, 20));
    assert_eq!(stats.in_time_share(), 0.5);
}

#[test]
fn what_is_under_way_when_it_is_needed_is_late_and_used() {
    let mut residency = residency(u64::MAX, true);
    residency.expect(4, true);
    let Some(Action::Load(4)) = residency.next() else { panic!() };
    assert_eq!(residency.need(4), Found::Awaited);
    assert!(residency.next().is_none(), "it is not loaded twice");
    assert!(residency.loaded(4), "somebody waits for it");
    let stats = residency.stats;
    assert_eq!((stats.late, stats.bytes_prefetched, stats.bytes_used), (1, 10, 10));
}

#[test]
fn a_wrong_guess_that_was_not_begun_is_forgotten() {
    let mut residency = residency(u64::MAX, true);
    residency.expect(1, true);
    residency.expect(5, true);
    residency.end_layer(0);
    assert_eq!(work(&mut residency).0, [5]);
    assert_eq!(residency.stats.predicted_wrong, 1);
    // And may be asked for again.
    residency.begin_pass(u64::MAX);
    assert!(residency.expect(1, true));
    assert_eq!(work(&mut residency).0, [1]);
}

#[test]
fn the_limit_holds_and_what_is_wanted_stays() {
    let mut residency = residency(40, true);
    for pass in 0..20 {
        residency.begin_pass(40);
        for layer in 0..3 {
            compute(&mut residency, layer, &[pass % 4, (pass + 1) % 4]);
            assert!(residency.resident() <= 40, "{}", residency.resident());
        }
    }
    // One that is needed beyond the limit is loaded all the same.
    residency.begin_pass(10);
    compute(&mut residency, 0, &[0, 1, 2]);
    assert!(residency.resident() >= 30);
    // And goes when the layer is done.
    work(&mut residency);
    assert!(residency.resident() <= 10);
}

#[test]
fn frequent_slots_outlive_rare_ones() {
    let mut residency = residency(60, true);
    for pass in 0..100 {
        residency.begin_pass(60);
        for layer in 0..3 {
            let rare = 1 + (pass / 2) % 3;
            compute(&mut residency, layer, &[0, rare]);
        }
    }
    let before = residency.stats;
    residency.begin_pass(60);
    for layer in 0..3 {
        compute(&mut residency, layer, &[0]);
    }
    assert_eq!(residency.stats.since(&before).hits, 3);
}

#[test]
fn a_cycle_larger_than_memory_keeps_part_of_itself() {
    // All slots in turn, as in a prompt: whoever forgets the oldest first would read everything anew each time.
    let mut residency = residency(90, true);
    let mut read = 0;
    for _ in 0..50 {
        residency.begin_pass(90);
        read = (0..3).map(|layer| compute(&mut residency, layer, &[0, 1, 2, 3]).0.len()).sum();
    }
    assert!(read <= 6, "{read} of 12 slots are read in each pass");
}

#[test]
fn a_guess_takes_the_place_only_of_what_is_needed_later() {
    let mut residency = residency(10, true);
    compute(&mut residency, 0, &[0]);
    // Layer 1 comes before layer 0 does again.
    assert!(residency.expect(4, true));
    assert_eq!(work(&mut residency), (vec![4], vec![0]));
    // Number 4 is foretold: it may not go for another guess.
    assert!(residency.expect(8, true));
    assert_eq!(work(&mut residency), (vec![], vec![]));
}

#[test]
fn without_loading_the_computation_reads_and_the_rest_goes() {
    let mut residency = residency(20, false);
    assert!(!residency.expect(3, true));
    [0, 1, 2].iter().for_each(|&slot| assert_eq!(residency.need(slot), Found::Ready));
    assert_eq!(work(&mut residency), (vec![], vec![]), "what is wanted stays");
    residency.end_layer(0);
    assert_eq!(work(&mut residency).1.len(), 1);
    assert_eq!(residency.resident(), 20);
}

#[test]
fn what_is_asked_for_while_it_goes_comes_back() {
    let mut residency = residency(10, true);
    compute(&mut residency, 0, &[0]);
    residency.begin_pass(0);
    let Some(Action::Release(0)) = residency.next() else { panic!() };
    assert_eq!(residency.need(0), Found::Awaited);
    assert!(residency.next().is_none());
    residency.released(0);
    assert_eq!(work(&mut residency).0, [0]);
    assert!(residency.is_ready(0));
}
