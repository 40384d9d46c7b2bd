use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// Threads that play processes: a channel for each pair.
struct Threads {
    rank: usize,
    to: Vec<Sender<Vec<u64>>>,
    from: Vec<Receiver<Vec<u64>>>,
}

impl Threads {
    fn new(size: usize) -> Vec<Threads> {
        let mut threads: Vec<_> = (0..size).map(|rank| Threads { rank, to: vec![], from: vec![] }).collect();
        for from in 0..size {
            for to in 0..size {
                let (sender, receiver) = channel();
                threads[from].to.push(sender);
                threads[to].from.push(receiver);
            }
        }
        threads
    }

    fn gone<E>(&self, _: E) -> ProcessError {
        ProcessError { rank: self.rank, size: self.to.len(), what: "gone".into() }
    }
}

impl Processes for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn send(&self, to: usize, values: &[f32]) -> Result<(), ProcessError> {
        let bits = values.iter().map(|value| u64::from(value.to_bits())).collect();
        self.to[to].send(bits).map_err(|error| self.gone(error))
    }

    fn receive(&self, from: usize, values: &mut [f32]) -> Result<(), ProcessError> {
        let bits = self.from[from].recv().map_err(|error| self.gone(error))?;
        assert_eq!(bits.len(), values.len());
        values.iter_mut().zip(bits).for_each(|(value, bits)| *value = f32::from_bits(bits as u32));
        Ok(())
    }

    fn send_f64(&self, to: usize, values: &[f64]) -> Result<(), ProcessError> {
        let bits = values.iter().map(|value| value.to_bits()).collect();
        self.to[to].send(bits).map_err(|error| self.gone(error))
    }

    fn receive_f64(&self, from: usize, values: &mut [f64]) -> Result<(), ProcessError> {
        let bits = self.from[from].recv().map_err(|error| self.gone(error))?;
        assert_eq!(bits.len(), values.len());
        values.iter_mut().zip(bits).for_each(|(value, bits)| *value = f64::from_bits(bits));
        Ok(())
    }
}

/// What each of `size` processes has in the end, of eight parts with awkward numbers.
fn summed(size: usize) -> Vec<(Vec<f32>, Vec<f64>)> {
    let part = |number: usize| -> Vec<f32> {
        let mut random = crate::random::Random::new(&[number as u64]);
        (0..100)
            .map(|_| (random.bits() as f32 / 1e15 - 9000.0) * 10f32.powi(random.below(9) as i32))
            .collect()
    };
    let own = 8 / size;
    let threads = Threads::new(size).into_iter().map(|processes| {
        std::thread::spawn(move || {
            let first = processes.rank() * own;
            let mut sum = crate::run::sum_of_parts(
                own,
                vec![0.0; 100],
                &mut |number, sum: &mut Vec<f32>| {
                    sum.copy_from_slice(&part(first + number));
                    Ok::<_, ProcessError>(())
                },
                &|a, b| add(a, b),
            )
            .unwrap();
            let mut counts = [first as f64 + 0.1];
            let (left, right) = sum.split_at_mut(30);
            add_all(&processes, &mut [left, right], &mut counts).unwrap();
            assert!(decide(&processes, true).unwrap() && !decide(&processes, false).unwrap());
            (sum, counts.to_vec())
        })
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn any_number_of_processes_makes_the_same_sum() {
    let alone = summed(1);
    assert_ne!(alone[0].0[0], 0.0);
    for size in [2, 4, 8] {
        let all = summed(size);
        assert_eq!(all.len(), size);
        for (sum, counts) in &all {
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(sum), bits(&alone[0].0), "{size}");
            assert_eq!(counts, &all[0].1);
        }
    }
}
