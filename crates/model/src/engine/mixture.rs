//! The mixture-of-experts feed-forward layer.
//!
//! Tokens are grouped by expert, so that an expert's matrices are read once for all of them, and the experts are computed side
//! by side: one fork and join for all gates and ups, one for all downs, each expert's rows cut into pieces of their own. For
//! one token that is the experts it visits; for a prompt it is some experts at a time, so that buffers stay small.
//!
//! A token's sum has a fixed order whatever the groups: from zero, its experts by ascending index, each `sum = sum +
//! (weight * y)` rounded twice, then the shared expert. Products are independent of how many rows they are made for, so the
//! bits of a token do not depend on the tokens beside it, nor on which of its experts were computed first.
use std::ops::Range;

use chalot_tensor::Activations;
use chalot_tensor::elementwise::add_assign;
use chalot_tensor::exec::{Exec, ShapeError};
use chalot_tensor::linear::{GatedProjection, project_each, project_gated_each};
use chalot_tensor::norm::rms_norm_for;
use chalot_tensor::parts::Parts;

use super::blocks::{Pass, factor, gated_ffn, to};
use super::experts::{Group, Routing, Visit};
use super::profile::Step;
use super::scratch::{FfnBuffers, room};
use crate::weights::{Experts, GatedFfn};

/// Experts computed side by side: more share too little to be worth the buffers.
const GROUPS: usize = 16;
/// Visits computed side by side, unless those of one expert are more.
const VISITS: usize = 512;
/// Elements of a sum below which it is made by the calling thread alone: some microseconds.
const PARALLEL: usize = 64 * 1024;

/// Buffers of the experts that are computed side by side, one expert after the other.
#[derive(Default)]
pub(super) struct MixtureBuffers {
    /// The rows of each expert's tokens: `[n][hidden]`.
    gathered: Vec<Activations>,
    /// Input of the sub-norms, where there are some: `[visits][intermediate]`.
    spare: Vec<f32>,
    /// Input of each expert's down: `[n][intermediate]`.
    inner: Vec<Activations>,
    /// `[visits][hidden]`
    out: Vec<f32>,
    turns: Vec<Turn>,
}

/// When an expert is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// When its weights are there.
    Later,
    Now,
    Done,
}

/// `out = sum of weight * expert(x)` over each token's experts, plus the shared expert; rows of `x` are tokens. `index` is
/// the layer's number; `ahead` is called once, when this layer's experts have been asked for.
pub(super) fn mixture(
    pass: &Pass<'_>,
    (index, experts): (usize, &Experts),
    x: &mut Activations,
    routing: &Routing,
    (ffn, buffers): (&mut FfnBuffers, &mut MixtureBuffers),
    ahead: &mut dyn FnMut() -> Result<(), ShapeError>,
    out: &mut [f32],
) -> Result<(), ShapeError> {
    out.fill(0.0);
    let Routing { visits, groups, .. } = routing;
    if let Some(prefetcher) = pass.prefetcher {
        prefetcher.need(index, groups.iter().take(GROUPS).map(|group| group.expert));
        prefetcher.expect(index, groups.iter().skip(GROUPS).map(|group| group.expert), false);
    }
    ahead()?;
    for groups in batches(groups) {
        let batch = Batch { pass, experts, groups };
        let visits = &visits[batch.visits()];
        batch.compute_as_they_come(index, visits, x, buffers)?;
        batch.add(visits, &buffers.out, out);
        pass.clock.lap(Step::Routing);
    }
    if let Some(shared) = &experts.shared {
        let rows = room(&mut buffers.out, out.len());
        gated_ffn(pass, shared, pass.m, x, ffn, rows)?;
        add_assign(pass.exec, out, rows)?;
        pass.clock.lap(Step::Routing);
    }
    Ok(())
}

/// Cuts the groups into runs that are computed side by side.
fn batches(mut groups: &[Group]) -> impl Iterator<Item = &[Group]> {
    std::iter::from_fn(move || {
        let start = groups.first()?.visits.start;
        let fits = |group: &&Group| group.visits.end - start <= VISITS;
        let len = groups.iter().take(GROUPS).take_while(fits).count().max(1);
        groups.split_off(..len)
    })
}

/// Some experts of a layer and the visits to them.
#[derive(Clone, Copy)]
struct Batch<'a> {
    pass: &'a Pass<'a>,
    experts: &'a Experts,
    groups: &'a [Group],
}

impl<'a> Batch<'a> {
    /// The visits to these experts.
    fn visits(&self) -> Range<usize> {
        let start = self.groups.first().map_or(0, |group| group.visits.start);
        start..self.groups.last().map_or(start, |group| group.visits.end)
    }

    /// The networks, and how many tokens visit each.
    fn networks(&self) -> impl Iterator<Item = (&'a GatedFfn, usize)> + use<'a> {
        let experts = self.experts;
        self.groups.iter().map(|group| (&experts.experts[group.expert], group.visits.len()))
    }

    /// Computes the outputs of all experts: those first whose weights are in memory, the others as they arrive.
    fn compute_as_they_come(
        &self,
        index: usize,
        visits: &[Visit],
        x: &mut Activations,
        buffers: &mut MixtureBuffers,
    ) -> Result<(), ShapeError> {
        buffers.turns.clear();
        let Some(prefetcher) = self.pass.prefetcher else {
            buffers.turns.resize(self.groups.len(), Turn::Now);
            return self.compute(visits, x, buffers);
        };
        buffers.turns.resize(self.groups.len(), Turn::Later);
        let experts = self.groups.iter().map(|group| group.expert);
        prefetcher.need(index, experts.clone());
        loop {
            let ready = &mut [false; GROUPS][..self.groups.len()];
            for (ready, turn) in ready.iter_mut().zip(&buffers.turns) {
                *ready = *turn == Turn::Done;
            }
            let all = prefetcher.await_more(index, experts.clone(), ready);
            for (ready, turn) in ready.iter().zip(&mut buffers.turns) {
                if *ready && *turn == Turn::Later {
                    *turn = Turn::Now;
                }
            }
            self.pass.clock.lap(Step::Waiting);
            self.compute(visits, x, buffers)?;
            if all {
                return Ok(());
            }
            buffers.turns.iter_mut().filter(|turn| **turn == Turn::Now).for_each(|turn| *turn = Turn::Done);
        }
    }

    /// Computes the outputs of those experts whose turn it is.
    fn compute(
        &self,
        visits: &[Visit],
        x: &mut Activations,
        buffers: &mut MixtureBuffers,
    ) -> Result<(), ShapeError> {
        let Pass { exec, config, clock, .. } = *self.pass;
        let (count, hidden) = (self.groups.len(), config.hidden_size);
        let width = self.networks().next().map_or(0, |(network, _)| network.gate.weight.rows());
        let MixtureBuffers { gathered, spare, inner, out, turns } = buffers;
        if inner.len() < count {
            inner.resize_with(count, Activations::new);
            gathered.resize_with(count, Activations::new);
        }
        let now = |place: usize| turns[place] == Turn::Now;

        // Of one token every expert sees the same row: it is quantized once.
        let one = self.pass.m == 1;
        if !one {
            self.gather(visits, x.as_f32(), gathered, &now);
        }
        clock.lap(Step::Routing);
        let inputs = if one { std::slice::from_mut(x) } else { &mut gathered[..count] };

        let has_norm = self.networks().any(|(network, _)| network.sub_norm.is_some());
        let spares = room(spare, if has_norm { visits.len() * width } else { 0 });
        let products =
            self.networks().zip(inner.iter_mut()).zip(rows(self.groups, spares, width)).enumerate();
        let products = products.filter(|(place, _)| now(*place));
        let products = products.map(|(place, (((network, n), inner), spare))| GatedProjection {
            input: if one { 0 } else { place },
            gate: factor(&network.gate),
            up: factor(&network.up),
            y: if has_norm { spare } else { inner.set(n, width) },
        });
        project_gated_each(exec, config.activation, inputs, products)?;
        clock.lap(Step::GateAndUp);

        if has_norm {
            let networks = self.networks().zip(rows(self.groups, spares, width)).zip(inner.iter_mut());
            for (_, (((network, _), rows), inner)) in networks.enumerate().filter(|(place, _)| now(*place)) {
                if let Some(norm) = &network.sub_norm {
                    rms_norm_for(exec, rows, norm, config.norm_eps, inner, &[&network.down.weight])?;
                }
            }
            clock.lap(Step::Norms);
        }
        let out = room(out, visits.len() * hidden);
        let downs = self.networks().zip(rows(self.groups, out, hidden)).enumerate();
        let downs = downs.filter(|(place, _)| now(*place));
        let downs = downs.map(|(place, ((network, _), y))| (place, to(&network.down, y)));
        project_each(exec, &mut inner[..count], downs)?;
        clock.lap(Step::Down);
        Ok(())
    }

    /// Copies each expert's rows together, in the form that its gate takes.
    fn gather(&self, visits: &[Visit], x: &[f32], inputs: &mut [Activations], now: &dyn Fn(usize) -> bool) {
        let (hidden, start) = (self.pass.config.hidden_size, self.visits().start);
        for (place, (group, input)) in self.groups.iter().zip(inputs).enumerate() {
            if !now(place) {
                continue;
            }
            let visits = &visits[group.visits.start - start..group.visits.end - start];
            let GatedFfn { gate, up, .. } = &self.experts.experts[group.expert];
            let factors = [&gate.weight, &up.weight];
            input.fill(self.pass.exec, (visits.len(), hidden), &factors, &|visit, row| {
                row.copy_from_slice(&x[visits[visit].token * hidden..][..hidden]);
            });
        }
    }

    /// Adds the outputs `[visits][hidden]` to the tokens' sums.
    fn add(&self, visits: &[Visit], outputs: &[f32], out: &mut [f32]) {
        let hidden = self.pass.config.hidden_size;
        let Exec { pool, .. } = self.pass.exec;
        let tokens = (PARALLEL / 4).div_ceil(hidden);
        if visits.len() * hidden < PARALLEL || pool.threads() == 1 {
            return add_tokens(visits, outputs, 0, hidden, out);
        }
        let parts = Parts::new(out, tokens * hidden);
        pool.run(parts.count(), &|task| {
            add_tokens(visits, outputs, task * tokens, hidden, parts.take(task));
        });
    }
}

/// Adds what belongs to the tokens from `first` on, whose sums `out` holds. Visits are by ascending expert.
fn add_tokens(visits: &[Visit], outputs: &[f32], first: usize, hidden: usize, out: &mut [f32]) {
    for (visit, row) in visits.iter().zip(outputs.chunks_exact(hidden)) {
        let place = visit.token.checked_sub(first).and_then(|token| out.chunks_exact_mut(hidden).nth(token));
        for (sum, y) in place.into_iter().flatten().zip(row) {
            *sum += visit.weight * y;
        }
    }
}

/// The rows of each group, of `width` elements.
fn rows<'a>(
    groups: &'a [Group],
    mut all: &'a mut [f32],
    width: usize,
) -> impl Iterator<Item = &'a mut [f32]> {
    groups.iter().map(move |group| all.split_off_mut(..group.visits.len() * width).unwrap_or_default())
}
