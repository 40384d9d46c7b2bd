//! Processes that `mpirun` started.

use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, Source};

use super::{ProcessError, Processes};

/// The processes of MPI's world. An error of MPI itself ends all of them, as MPI does by default.
pub struct Mpi {
    world: SimpleCommunicator,
    /// Ends MPI when it goes.
    _universe: Universe,
}

/// Values of a message: MPI counts them as i32.
const MESSAGE: usize = 1 << 28;

impl Mpi {
    /// Joins them.
    ///
    /// # Errors
    /// [`ProcessError`] if MPI has been joined before, or if their number is no power of two.
    pub fn join() -> Result<Mpi, ProcessError> {
        let Some(universe) = mpi::initialize() else {
            return Err(ProcessError { rank: 0, size: 0, what: "MPI has been started already".into() });
        };
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        if !size.is_power_of_two() {
            let what = "their number must be a power of two: give mpirun -np 1, 2, 4, ...".into();
            return Err(ProcessError { rank, size, what });
        }
        Ok(Mpi { world, _universe: universe })
    }
}

impl Processes for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn send(&self, to: usize, values: &[f32]) -> Result<(), ProcessError> {
        for values in values.chunks(MESSAGE) {
            self.world.process_at_rank(to as i32).send(values);
        }
        Ok(())
    }

    fn receive(&self, from: usize, values: &mut [f32]) -> Result<(), ProcessError> {
        for values in values.chunks_mut(MESSAGE) {
            self.world.process_at_rank(from as i32).receive_into(values);
        }
        Ok(())
    }

    fn send_f64(&self, to: usize, values: &[f64]) -> Result<(), ProcessError> {
        self.world.process_at_rank(to as i32).send(values);
        Ok(())
    }

    fn receive_f64(&self, from: usize, values: &mut [f64]) -> Result<(), ProcessError> {
        self.world.process_at_rank(from as i32).receive_into(values);
        Ok(())
    }
}
