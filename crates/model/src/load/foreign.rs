//! Weights from a file that is not in our own format: repacked into kernel order as they are asked for.
use std::cell::{Cell, RefCell};

use chalot_simd::Arena;
use chalot_tensor::exec::Exec;
use chalot_tensor::matrix::Matrix;

use super::LoadOptions;
use super::assemble::{Usage, Weights};
use super::build;
use super::names::{Part, Projection, Role, Where};
use super::store::{Kind, Store};
use crate::config::{ExpertsConfig, ModelConfig};
use crate::error::ModelError;

/// The weights of a [`Store`].
pub(super) struct Foreign<'a> {
    pub(super) store: Store,
    /// What the file's norm weights lack: 1 where the family multiplies by `1 + w`.
    pub(super) norm_offset: f32,
    pub(super) exec: &'a Exec,
    pub(super) options: &'a LoadOptions<'a>,
    /// Where the matrices are kept.
    pub(super) arena: RefCell<Arena>,
    /// Bytes read so far.
    pub(super) done: Cell<u64>,
    /// Bytes of all tensors.
    pub(super) total: u64,
}

impl<'a> Foreign<'a> {
    /// Checks that the store holds what `config` needs.
    pub(super) fn new(
        store: Store,
        config: &ModelConfig,
        norm_offset: f32,
        exec: &'a Exec,
        options: &'a LoadOptions<'a>,
    ) -> Result<Self, ModelError> {
        store.check(config)?;
        let total = store.tensors.values().map(|stored| stored.bytes.len() as u64).sum();
        let (arena, done) = (RefCell::default(), Cell::new(0));
        Ok(Self { store, norm_offset, exec, options, arena, done, total })
    }

    fn advance(&self, bytes: usize) {
        self.done.set(self.done.get() + bytes as u64);
        if let Some(progress) = self.options.progress {
            progress(self.done.get(), self.total);
        }
    }

    fn vector(&self, role: Role, kind: Kind, len: usize) -> Result<Vec<f32>, ModelError> {
        let stored = self.store.required(role, kind, &[len])?;
        let vector = build::vector(stored)?;
        self.advance(stored.bytes.len());
        Ok(vector)
    }
}

impl Weights for Foreign<'_> {
    fn matrix(&self, role: Role, usage: Usage, rows: usize, cols: usize) -> Result<Matrix, ModelError> {
        let stored = self.store.required(role, Kind::Weight, &[rows, cols])?;
        let matrix = build::matrix(self.exec, stored, usage, self.options)?;
        self.advance(stored.bytes.len());
        Ok(matrix.kept_in(&mut self.arena.borrow_mut()))
    }

    fn bias(&self, role: Role, len: usize) -> Result<Vec<f32>, ModelError> {
        self.vector(role, Kind::Bias, len)
    }

    fn norm(&self, role: Role, len: usize) -> Result<Vec<f32>, ModelError> {
        let mut norm = self.vector(role, Kind::Weight, len)?;
        for weight in &mut norm {
            *weight += self.norm_offset;
        }
        Ok(norm)
    }

    fn experts(
        &self,
        layer: usize,
        hidden: usize,
        config: &ExpertsConfig,
    ) -> Result<[Vec<Matrix>; 3], ModelError> {
        let stack = |projection: Projection| {
            let (rows, cols) = projection.shape(hidden, config.intermediate_size);
            let role = |expert| Role::Layer(layer, Part::Ffn(Where::Expert(expert), projection));
            let stored = (0..config.count)
                .map(|expert| self.store.required(role(expert), Kind::Weight, &[rows, cols]));
            let stored = stored.collect::<Result<Vec<_>, _>>()?;
            let matrices = build::alike(self.exec, &stored, Usage::Linear, self.options)?;
            self.advance(stored.iter().map(|stored| stored.bytes.len()).sum());
            let arena = &mut *self.arena.borrow_mut();
            Ok::<_, ModelError>(matrices.into_iter().map(|matrix| matrix.kept_in(arena)).collect())
        };
        Ok([stack(Projection::Gate)?, stack(Projection::Up)?, stack(Projection::Down)?])
    }

    fn selection_bias(&self, layer: usize, count: usize) -> Result<Option<Vec<f32>>, ModelError> {
        // `Store::check` refused it in a family that has none.
        let role = Role::Layer(layer, Part::SelectionBias);
        let there = self.store.get(role, Kind::Weight).is_some();
        there.then(|| self.vector(role, Kind::Weight, count)).transpose()
    }

    fn finish(&self) -> Result<(), ModelError> {
        Ok(())
    }
}
