//! Where the parts of a model lie in its mapped file.
use std::ops::Range;

use chalot_tensor::matrix::Matrix;

use crate::mapping::Mapping;
use crate::weights::{Attention, Ffn, GatedFfn, Layer, Model};

/// Byte ranges of a file, apart from each other.
pub(super) type Region = Vec<Range<usize>>;

/// Ranges closer than this are one: what lies between is padding.
const GAP: usize = 4096;

/// The parts of a model that are read and released by themselves, and those that stay.
pub(super) struct Regions {
    /// The networks of each layer: its experts, or the one of a dense layer.
    pub networks: Vec<Vec<Region>>,
    /// Each layer's attention, router and shared expert.
    pub attention: Vec<Region>,
    /// The head.
    pub head: Region,
}

impl Regions {
    /// `None` when a network does not lie in the mapping (it was repacked, or is another file's).
    pub fn of(model: &Model, mapping: &Mapping) -> Option<Self> {
        let networks = model.layers.iter().map(|layer| match &layer.ffn {
            Ffn::Dense(ffn) => Some(vec![network(mapping, ffn)?]),
            Ffn::Experts(experts) => experts.experts.iter().map(|ffn| network(mapping, ffn)).collect(),
        });
        Some(Self {
            networks: networks.collect::<Option<_>>()?,
            attention: model.layers.iter().map(|layer| attention(mapping, layer)).collect(),
            head: region(mapping, [model.head()]),
        })
    }

    /// Bytes of a region.
    pub fn bytes(region: &Region) -> u64 {
        region.iter().map(|range| range.len() as u64).sum()
    }
}

fn network(mapping: &Mapping, ffn: &GatedFfn) -> Option<Region> {
    let matrices = [&ffn.gate, &ffn.up, &ffn.down].map(|linear| &linear.weight);
    let all_there = matrices.iter().all(|matrix| mapping.position(matrix.image()).is_some());
    all_there.then(|| region(mapping, matrices))
}

fn attention(mapping: &Mapping, layer: &Layer) -> Region {
    let Attention { q, k, v, o, .. } = &layer.attention;
    let mut matrices = vec![&q.weight, &k.weight, &v.weight, &o.weight];
    if let Ffn::Experts(experts) = &layer.ffn {
        matrices.push(&experts.router.weight);
        let shared = experts.shared.iter().flat_map(|ffn| [&ffn.gate, &ffn.up, &ffn.down]);
        matrices.extend(shared.map(|linear| &linear.weight));
    }
    region(mapping, matrices)
}

/// Where these matrices lie, as far as they lie in the mapping.
fn region<'a>(mapping: &Mapping, matrices: impl IntoIterator<Item = &'a Matrix>) -> Region {
    let ranges = matrices.into_iter().filter_map(|matrix| mapping.position(matrix.image()));
    let mut ranges: Vec<_> = ranges.filter(|range| !range.is_empty()).collect();
    ranges.sort_by_key(|range| range.start);
    let mut merged: Region = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(GAP) => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}
