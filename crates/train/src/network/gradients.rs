//! Gradients of all parameters, and what a pass measures.
use chalot_tensor::exec::Exec;
use chalot_tensor::parts::Parts;

use super::Parameter;

/// Numbers of a task.
const PIECE: usize = 1 << 15;

/// Gradients of all parameters in one buffer, in the parameters' order.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// All numbers; a parameter's begin at its [`Parameter::offset`].
    pub data: Vec<f32>,
}

impl Gradients {
    /// Zeros for these parameters.
    pub fn new(parameters: &[Parameter]) -> Self {
        Self { data: vec![0.0; parameters.iter().map(|parameter| parameter.value.len()).sum()] }
    }

    /// Makes them zero.
    pub fn clear(&mut self, exec: &Exec) {
        let parts = Parts::new(&mut self.data, PIECE);
        exec.pool.run(parts.count(), &|task| parts.take(task).fill(0.0));
    }

    /// Those of one parameter.
    pub fn of(&self, parameter: &Parameter) -> &[f32] {
        &self.data[parameter.offset..][..parameter.value.len()]
    }

    /// `self += other`.
    pub fn add(&mut self, other: &Self) {
        self.data.iter_mut().zip(&other.data).for_each(|(sum, x)| *sum += x);
    }

    /// The Euclidean norm of all numbers, summed in f64: piece by piece, in each eight sums side by side.
    pub fn norm(&self, exec: &Exec) -> f64 {
        let mut sums = vec![0.0; self.data.len().div_ceil(PIECE)];
        let parts = Parts::new(&mut sums, 1);
        exec.pool.run(parts.count(), &|task| {
            let piece = &self.data[task * PIECE..self.data.len().min((task + 1) * PIECE)];
            let mut eight = [0.0; 8];
            for x in piece.chunks(8) {
                eight.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
            }
            parts.take(task)[0] = eight.iter().sum::<f64>();
        });
        drop(parts);
        sums.iter().sum::<f64>().sqrt()
    }
}

/// Sums over tokens, which add up over parts of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// Tokens that were predicted.
    pub tokens: u64,
    /// Cross-entropy in nats.
    pub main: f64,
    /// Tokens whose target was the likeliest.
    pub hits: u64,
    /// Tokens that were predicted at the early exit.
    pub exit_tokens: u64,
    /// Cross-entropy at the early exit, in nats.
    pub exit: f64,
    /// Squares of the logits' log-sum-exp.
    pub z: f64,
    /// Squares of the routers' log-sum-exp, over tokens and layers.
    pub router_z: f64,
    /// The balance loss, over tokens and layers: 1 for each where all experts are used alike.
    pub balance: f64,
    /// Visits of each expert, for each layer; empty for dense layers.
    pub load: Vec<Vec<u64>>,
}

impl Losses {
    /// Adds those of other tokens.
    pub fn add(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.main += other.main;
        self.hits += other.hits;
        self.exit_tokens += other.exit_tokens;
        self.exit += other.exit;
        self.z += other.z;
        self.router_z += other.router_z;
        self.balance += other.balance;
        if self.load.is_empty() {
            self.load.clone_from(&other.load);
        } else {
            for (sum, load) in self.load.iter_mut().zip(&other.load) {
                sum.iter_mut().zip(load).for_each(|(sum, n)| *sum += n);
            }
        }
    }
}
