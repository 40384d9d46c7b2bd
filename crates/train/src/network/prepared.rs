//! The weights as the passes of a step see them: quantized once, whatever the number of parts.
use chalot_tensor::exec::Exec;
use chalot_tensor::gemm::IntegerMatrix;
use chalot_tensor::math::lanes::{Kernel, LANES, Lanes, dispatch};
use chalot_tensor::matrix::{Format, Matrix, MatrixError, ScaleBy};
use chalot_tensor::parts::Parts;

use super::parameter::{EMBEDDING, Kind, Parameter};

/// Weights of one step.
pub(super) struct Prepared {
    /// By parameter; `None` for norms.
    matrices: Vec<Option<Matrix>>,
    /// By the first parameter of a product, see [`Prepared::for_way_back`].
    integers: Vec<IntegerMatrix>,
    has_integers: bool,
    /// What the matrices hold, as floats, laid out as the parameters: the straight-through gradients pass through them. Nothing of
    /// use where a matrix is ternary with lambda 1; then `integers` are in its place.
    pub dense: Vec<f32>,
    /// How far quantization is phased in.
    pub lambda: f32,
}

impl Prepared {
    /// Quantizes the parameters: matrices by `lambda`, the embedding always.
    pub fn new(
        exec: &Exec,
        parameters: &[Parameter],
        embedding: Format,
        lambda: f32,
        old: Option<Self>,
    ) -> Result<Self, (usize, MatrixError)> {
        let len = parameters.iter().map(|parameter| parameter.value.len()).sum();
        let (mut dense, mut integers) = old.map(|old| (old.dense, old.integers)).unwrap_or_default();
        dense.resize(len, 0.0);
        if lambda != 1.0 {
            // Those of layers are not made now, and must not be found.
            integers.clear();
        }
        let mut results: Vec<_> = parameters.iter().map(|_| None).collect();
        let ends = parameters.iter().map(|parameter| parameter.offset + parameter.value.len()).collect();
        let (parts, slots) = (Parts::at(&mut dense, ends), Parts::new(&mut results, 1));
        let one = |id: usize| {
            let (parameter, dense) = (&parameters[id], parts.take(id));
            if parameter.kind != Kind::Norm {
                slots.take(id)[0] = Some(quantize(exec, parameter, embedding, lambda, dense));
            }
        };
        // The embedding is large: all threads; the others one by one on each.
        one(EMBEDDING);
        exec.pool.run(parameters.len() - 1, &|task| one(task + 1));
        drop((parts, slots));
        let matrices = results.into_iter().enumerate().map(|(id, made)| match made {
            None => Ok(None),
            Some(Ok(matrix)) => Ok(Some(matrix)),
            Some(Err(error)) => Err((id, error)),
        });
        let matrices = matrices.collect::<Result<_, _>>()?;
        Ok(Self { matrices, integers, has_integers: false, dense, lambda })
    }

    /// Makes the integer factors of the way back, unless they are there: of `products`, each from its first parameter to its last.
    pub fn for_way_back(
        &mut self,
        exec: &Exec,
        parameters: &[Parameter],
        products: impl Iterator<Item = (usize, usize)>,
    ) {
        if self.has_integers {
            return;
        }
        self.integers.resize_with(parameters.len(), IntegerMatrix::default);
        let products: Vec<_> = products.collect();
        let (dense, matrices) = (&self.dense, &self.matrices);
        let slots = Parts::new(&mut self.integers, 1);
        exec.pool.run(products.len(), &|task| {
            let (first, last) = products[task];
            let (slot, cols) = (&mut slots.take(first)[0], parameters[first].shape[1]);
            if parameters[first].kind == Kind::Embedding {
                let dense = &dense[parameters[first].offset..];
                return slot.fill(exec, parameters[first].shape[0], cols, &|row, to| {
                    dispatch(exec.isa, EightBits { row: &dense[row * cols..][..cols], to })
                });
            }
            let rows: Vec<(&[f32], f32)> = (first..=last)
                .flat_map(|id| {
                    let scale = matrices[id].as_ref().and_then(Matrix::tensor_scale).unwrap_or(f32::NAN);
                    parameters[id].value.chunks_exact(cols).map(move |row| (row, scale))
                })
                .collect();
            slot.fill(exec, rows.len(), cols, &|row, to| {
                let (row, scale) = rows[row];
                dispatch(exec.isa, TernaryCodes { row, scale, to });
                scale
            });
        });
        drop(slots);
        self.has_integers = true;
    }

    /// The integer factor of a product that begins with a parameter, when there is one.
    pub fn integers(&self, first: usize) -> Option<&IntegerMatrix> {
        self.integers.get(first).filter(|integers| self.has_integers && integers.rows() > 0)
    }

    /// The matrix of a parameter that is one.
    pub fn matrix(&self, id: usize) -> &Matrix {
        self.matrices[id].as_ref().unwrap_or_else(|| unreachable!("parameter {id} is no matrix"))
    }
}

fn quantize(
    exec: &Exec,
    parameter: &Parameter,
    embedding: Format,
    lambda: f32,
    dense: &mut [f32],
) -> Result<Matrix, MatrixError> {
    let (rows, cols) = (parameter.shape[0], parameter.shape[1]);
    let ternary = Format::Trit2(ScaleBy::Tensor);
    let format = match parameter.kind {
        Kind::Matrix if lambda > 0.0 => ternary,
        Kind::Embedding => embedding,
        _ => Format::F32,
    };
    if format == Format::F32 {
        dense.copy_from_slice(&parameter.value);
        return Matrix::from_f32(exec, Format::F32, rows, cols, dense);
    }
    let matrix = Matrix::from_f32(exec, format, rows, cols, &parameter.value)?;
    if parameter.kind == Kind::Matrix && lambda == 1.0 {
        return Ok(matrix);
    }
    let out = Parts::new(dense, 16 * cols);
    let failed = std::sync::Mutex::new(None);
    exec.pool.run(out.count(), &|tile| {
        for (i, row) in out.take(tile).chunks_exact_mut(cols).enumerate() {
            if let Err(error) = matrix.row(16 * tile + i, row) {
                *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
            }
        }
    });
    drop(out);
    if let Some(error) = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        unreachable!("rows of the matrix itself: {error}");
    }
    if parameter.kind == Kind::Matrix {
        for (x, w) in dense.iter_mut().zip(&parameter.value) {
            *x = lambda.mul_add(*x - w, *w);
        }
        return Matrix::from_f32(exec, Format::F32, rows, cols, dense);
    }
    Ok(matrix)
}

/// The integers of a row that was rounded to 8 bits, and their factor.
struct EightBits<'a> {
    row: &'a [f32],
    to: &'a mut [f32],
}

impl Kernel for EightBits<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        let Self { row, to } = self;
        let mut max = l.splat(0.0);
        for x in row.chunks(LANES) {
            max = l.max(l.abs(l.load_or(x, 0.0)), max);
        }
        // The greatest is 127, so the rest are close to integers.
        let factor = l.maximum(max) / 127.0;
        let inverse = l.splat(if factor > 0.0 { 1.0 / factor } else { 0.0 });
        for (x, y) in row.chunks(LANES).zip(to.chunks_mut(LANES)) {
            l.store_some(l.round(l.mul(l.load_or(x, 0.0), inverse)), y);
        }
        factor
    }
}

/// The codes of a row of weights by the rule of [`Matrix::from_f32`].
struct TernaryCodes<'a> {
    row: &'a [f32],
    scale: f32,
    to: &'a mut [f32],
}

impl Kernel for TernaryCodes<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (scale, half, one, zero) = (l.splat(self.scale), l.splat(0.5), l.splat(1.0), l.splat(0.0));
        for (x, y) in self.row.chunks(LANES).zip(self.to.chunks_mut(LANES)) {
            let quotient = l.div(l.load_or(x, 0.0), scale);
            let magnitude = l.select(l.lt(half, l.abs(quotient)), one, zero);
            l.store_some(l.copysign(magnitude, quotient), y);
        }
    }
}

#[cfg(test)]
mod tests {
    use chalot_simd::Isa;

    use super::*;

    /// Random weights, and those whose quotients are halves.
    #[test]
    fn codes_are_those_of_the_matrix() {
        let exec = Exec::new(Isa::best(), 1);
        let mut random = crate::random::Random::new(&[5]);
        let random: Vec<f32> = (0..64 * 50).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect();
        // Their mean magnitude is 1.
        let halves: Vec<f32> =
            [0.5, -0.5, 1.5, -1.5, 0.0, 1.0, 2.0].into_iter().cycle().take(7 * 50).collect();
        for weights in [random, halves] {
            let format = Format::Trit2(ScaleBy::Tensor);
            let matrix = Matrix::from_f32(&exec, format, weights.len() / 50, 50, &weights).unwrap();
            let scale = matrix.tensor_scale().unwrap();
            assert!(weights.len() > 7 * 50 || scale == 1.0);
            let (mut expected, mut codes) = (vec![0.0; 50], vec![0.0; 50]);
            for (index, row) in weights.chunks_exact(50).enumerate() {
                matrix.row(index, &mut expected).unwrap();
                dispatch(exec.isa, TernaryCodes { row, scale, to: &mut codes });
                assert!(codes.iter().zip(&expected).all(|(code, x)| code * scale == *x), "row {index}");
            }
        }
    }
}
