//! Which layers are the shallow region and which the deep one.
use std::fmt;
use std::ops::Range;

use crate::config::ModelConfig;

/// The two regions of a model's layers.
///
/// The shallow region is the reflex: its hidden states are understood by the final norm and the head, because the model was
/// trained with an exit there. The deep region goes on from them. The file says where the border is
/// ([`ModelConfig::shallow_layers`]).
///
/// ```
/// use chalot_model::{BrainMap, synthetic::shape};
///
/// let mut config = shape("smollm2-135m").expect("a known shape");
/// assert!(!BrainMap::of(&config).has_exit()); // nobody trained an exit into it
/// config.shallow_layers = 10;
/// let map = BrainMap::of(&config);
/// assert_eq!((map.shallow(), map.deep()), (0..10, 10..30));
/// assert_eq!(map.to_string(), "shallow region: layers 0..10, deep region: layers 10..30");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrainMap {
    shallow: usize,
    layers: usize,
}

impl BrainMap {
    /// The map of a model.
    pub fn of(config: &ModelConfig) -> Self {
        let layers = config.num_layers();
        Self { shallow: config.shallow_layers.min(layers), layers }
    }

    /// The layers from which drafts may leave the model; empty when it was not trained for that.
    pub fn shallow(&self) -> Range<usize> {
        0..self.shallow
    }

    /// The layers that only verify.
    pub fn deep(&self) -> Range<usize> {
        self.shallow..self.layers
    }

    /// All layers.
    pub fn all(&self) -> Range<usize> {
        0..self.layers
    }

    /// Whether the shallow region can draft: there is one, and something is left to verify with.
    pub fn has_exit(&self) -> bool {
        0 < self.shallow && self.shallow < self.layers
    }
}

impl fmt::Display for BrainMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shallow == 0 {
            return write!(f, "no shallow region in {} layers", self.layers);
        }
        let (shallow, deep) = (self.shallow(), self.deep());
        write!(
            f,
            "shallow region: layers {}..{}, deep region: layers {}..{}",
            shallow.start, shallow.end, deep.start, deep.end
        )
    }
}
