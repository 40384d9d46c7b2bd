//! The weights as the passes of a step see them: quantized once, whatever the number of parts.
use chalot_tensor::exec::Exec;
use chalot_tensor::matrix::{Format, Matrix, MatrixError, Packing, ScaleBy};
use chalot_tensor::parts::Parts;

use super::parameter::{EMBEDDING, Kind, Parameter};

/// Weights of one step.
pub(super) struct Prepared {
    /// By parameter; `None` for norms.
    matrices: Vec<Option<Matrix>>,
    /// Transposed ternary matrices, where gradients are rounded.
    transposed: Vec<Option<Matrix>>,
    /// What the matrices hold, as floats, laid out as the parameters: the straight-through gradients pass through them.
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
        let mut dense = old.map(|old| old.dense).unwrap_or_default();
        dense.resize(len, 0.0);
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
        Ok(Self { matrices: matrices.collect::<Result<_, _>>()?, transposed: Vec::new(), dense, lambda })
    }

    /// Makes the transposed matrices, unless they are there.
    pub fn transpose(&mut self, exec: &Exec, parameters: &[Parameter]) -> Result<(), (usize, MatrixError)> {
        if !self.transposed.is_empty() || self.lambda != 1.0 {
            return Ok(());
        }
        let mut results: Vec<_> = parameters.iter().map(|_| None).collect();
        let slots = Parts::new(&mut results, 1);
        exec.pool.run(parameters.len(), &|id| {
            let parameter = &parameters[id];
            if parameter.kind == Kind::Matrix {
                let dense = &self.dense[parameter.offset..][..parameter.value.len()];
                slots.take(id)[0] = Some(transposed(exec, dense, parameter.shape[0], parameter.shape[1]));
            }
        });
        drop(slots);
        for (id, made) in results.into_iter().enumerate() {
            self.transposed.push(made.transpose().map_err(|error| (id, error))?);
        }
        Ok(())
    }

    /// The transposed matrix of a parameter, when there is one.
    pub fn transposed(&self, id: usize) -> Option<&Matrix> {
        self.transposed.get(id)?.as_ref()
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
    if parameter.kind == Kind::Matrix && lambda < 1.0 {
        for (x, w) in dense.iter_mut().zip(&parameter.value) {
            *x = lambda.mul_add(*x - w, *w);
        }
        return Matrix::from_f32(exec, Format::F32, rows, cols, dense);
    }
    Ok(matrix)
}

/// The transposed of a ternary matrix that is given as floats, all of them 0 or of one magnitude.
fn transposed(exec: &Exec, dense: &[f32], rows: usize, cols: usize) -> Result<Matrix, MatrixError> {
    let scale = dense.iter().fold(0.0f32, |scale, x| scale.max(x.abs()));
    let mut codes = vec![0i8; dense.len()];
    for (row, values) in dense.chunks_exact(cols).enumerate() {
        for (column, &x) in values.iter().enumerate() {
            codes[column * rows + row] = i8::from(x > 0.0) - i8::from(x < 0.0);
        }
    }
    Matrix::from_ternary(exec, Packing::Trit2, cols, rows, &codes, ScaleBy::Tensor, &[scale])
}
