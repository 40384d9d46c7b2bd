//! The loops, on sixteen lanes.
use super::Activation;
use crate::math::{
    lanes::{Kernel, LANES, Lanes},
    vector,
};

#[inline(always)]
fn apply<L: Lanes>(l: L, act: Activation, x: L::V) -> L::V {
    match act {
        Activation::Silu => vector::silu(l, x),
        Activation::GeluTanh => vector::gelu_tanh(l, x),
        Activation::GeluErf => vector::gelu_erf(l, x),
        Activation::Relu2 => {
            let positive = l.max(l.splat(0.0), x);
            l.mul(positive, positive)
        }
    }
}

/// Soft cap of a vector, given the cap and its inverse in all lanes.
#[inline(always)]
pub(crate) fn soft_cap<L: Lanes>(l: L, x: L::V, cap: L::V, inverse: L::V) -> L::V {
    l.mul(cap, vector::tanh(l, l.mul(x, inverse)))
}

pub(super) struct Add<'a> {
    pub x: &'a mut [f32],
    pub y: &'a [f32],
}

impl Kernel for Add<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for (x, y) in self.x.chunks_mut(LANES).zip(self.y.chunks(LANES)) {
            l.store_some(l.add(l.load_or(x, 0.0), l.load_or(y, 0.0)), x);
        }
    }
}

pub(super) struct Scale<'a> {
    pub x: &'a mut [f32],
    pub scale: f32,
}

impl Kernel for Scale<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let scale = l.splat(self.scale);
        for x in self.x.chunks_mut(LANES) {
            l.store_some(l.mul(l.load_or(x, 0.0), scale), x);
        }
    }
}

pub(super) struct SoftCap<'a> {
    pub x: &'a mut [f32],
    pub cap: f32,
}

impl Kernel for SoftCap<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (cap, inverse) = (l.splat(self.cap), l.splat(1.0 / self.cap));
        for x in self.x.chunks_mut(LANES) {
            l.store_some(soft_cap(l, l.load_or(x, 0.0), cap, inverse), x);
        }
    }
}

pub(super) struct Activate<'a> {
    pub act: Activation,
    pub x: &'a mut [f32],
}

impl Kernel for Activate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for x in self.x.chunks_mut(LANES) {
            l.store_some(apply(l, self.act, l.load_or(x, 0.0)), x);
        }
    }
}

pub(super) struct Gated<'a> {
    pub act: Activation,
    pub gate: &'a [f32],
    pub up: &'a [f32],
    pub y: &'a mut [f32],
}

impl Kernel for Gated<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let inputs = self.gate.chunks(LANES).zip(self.up.chunks(LANES));
        for (y, (gate, up)) in self.y.chunks_mut(LANES).zip(inputs) {
            l.store_some(l.mul(apply(l, self.act, l.load_or(gate, 0.0)), l.load_or(up, 0.0)), y);
        }
    }
}
