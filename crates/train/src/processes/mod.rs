//! Several processes that train one model together.
//!
//! Each process computes some parts of every step. The gradients of all parts are added as a binary tree over the parts, in
//! which the place of an addition depends on the numbers of the parts alone: part 0 with 1, 2 with 3, then these sums with
//! each other, and so on. A process adds what lies inside its own parts; the upper levels of the tree lie between processes.
//! So the sum, and with it the whole run, has the same bits for 1, 2, 4, ... processes.

#[cfg(feature = "mpi")]
mod mpi;

#[cfg(feature = "mpi")]
pub use mpi::Mpi;

/// Processes fail to hear of each other.
#[derive(Debug, thiserror::Error)]
#[error("process {rank} of {size}: {what}")]
pub struct ProcessError {
    /// The process.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// What happened, and what to do.
    pub what: String,
}

/// The processes of a run.
pub trait Processes {
    /// The number of this one; 0 writes files and talks to the user.
    fn rank(&self) -> usize;

    /// How many there are: a power of two.
    fn size(&self) -> usize;

    /// Sends to another process.
    ///
    /// # Errors
    /// [`ProcessError`] if it is gone.
    fn send(&self, to: usize, values: &[f32]) -> Result<(), ProcessError>;

    /// Receives as many values as `values` has from another process.
    ///
    /// # Errors
    /// [`ProcessError`] if it is gone.
    fn receive(&self, from: usize, values: &mut [f32]) -> Result<(), ProcessError>;

    /// [`send`](Self::send) for numbers that must not lose bits.
    ///
    /// # Errors
    /// [`ProcessError`] if it is gone.
    fn send_f64(&self, to: usize, values: &[f64]) -> Result<(), ProcessError>;

    /// [`receive`](Self::receive) for such.
    ///
    /// # Errors
    /// [`ProcessError`] if it is gone.
    fn receive_f64(&self, from: usize, values: &mut [f64]) -> Result<(), ProcessError>;
}

/// One process alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Processes for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn send(&self, _: usize, _: &[f32]) -> Result<(), ProcessError> {
        Ok(())
    }

    fn receive(&self, _: usize, _: &mut [f32]) -> Result<(), ProcessError> {
        Ok(())
    }

    fn send_f64(&self, _: usize, _: &[f64]) -> Result<(), ProcessError> {
        Ok(())
    }

    fn receive_f64(&self, _: usize, _: &mut [f64]) -> Result<(), ProcessError> {
        Ok(())
    }
}

/// Adds what all processes have, in the order of the tree; afterwards all of them have the sum. `counts` are added likewise;
/// all must have equally many.
///
/// # Errors
/// [`ProcessError`].
pub fn add_all(
    processes: &dyn Processes,
    values: &mut [&mut [f32]],
    counts: &mut [f64],
) -> Result<(), ProcessError> {
    let (rank, size) = (processes.rank(), processes.size());
    let longest = values.iter().map(|values| values.len()).max().unwrap_or(0);
    let mut buffer = vec![0.0f32; if size > 1 { longest } else { 0 }];
    let mut count_buffer = vec![0.0f64; counts.len()];
    let mut distance = 1;
    while distance < size {
        if rank.is_multiple_of(2 * distance) {
            for values in values.iter_mut() {
                let buffer = &mut buffer[..values.len()];
                processes.receive(rank + distance, buffer)?;
                add(values, buffer);
            }
            processes.receive_f64(rank + distance, &mut count_buffer)?;
            counts.iter_mut().zip(&count_buffer).for_each(|(sum, value)| *sum += value);
        } else if rank % (2 * distance) == distance {
            for values in values.iter() {
                processes.send(rank - distance, values)?;
            }
            processes.send_f64(rank - distance, counts)?;
        }
        distance *= 2;
    }
    // Back down the same tree.
    while distance > 1 {
        distance /= 2;
        if rank.is_multiple_of(2 * distance) {
            for values in values.iter() {
                processes.send(rank + distance, values)?;
            }
            processes.send_f64(rank + distance, counts)?;
        } else if rank % (2 * distance) == distance {
            for values in values.iter_mut() {
                processes.receive(rank - distance, values)?;
            }
            processes.receive_f64(rank - distance, counts)?;
        }
    }
    Ok(())
}

/// Tells all processes what process 0 decides.
///
/// # Errors
/// [`ProcessError`].
pub fn decide(processes: &dyn Processes, decision: bool) -> Result<bool, ProcessError> {
    let own = if processes.rank() == 0 && decision { 1.0 } else { 0.0 };
    let mut sum = [own];
    add_all(processes, &mut [], &mut sum)?;
    Ok(sum[0] > 0.0)
}

/// `sum[i] += values[i]`.
pub(crate) fn add(sum: &mut [f32], values: &[f32]) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

#[cfg(test)]
mod tests;
