//! A matrix in another form: what a request for other weights does to a native file's.
use chalot_tensor::exec::Exec;
use chalot_tensor::matrix::{Format, Matrix, MatrixError, Packing, ScaleBy};

use super::assemble::Usage;
use super::build::{INT4, INT8};
use super::slabs;
use super::{LoadOptions, WeightsAs};

/// `matrix`, or what the options make of it.
pub(crate) fn recode(
    exec: &Exec,
    matrix: Matrix,
    usage: Usage,
    options: &LoadOptions,
) -> Result<Matrix, MatrixError> {
    let format = matrix.format();
    let wanted = match (options.weights, usage) {
        (WeightsAs::F32, _) | (_, Usage::Router) => Format::F32,
        (WeightsAs::Auto, _) | (WeightsAs::Ternary, Usage::Embedding | Usage::Head) => format,
        (WeightsAs::Ternary, Usage::Linear) if format.packing().is_some() => format,
        (WeightsAs::Ternary, Usage::Linear) => Packing::Trit2.scaled(ScaleBy::Tensor),
        (WeightsAs::Int4, Usage::Linear) if matches!(format, Format::Int4 { .. }) => format,
        (WeightsAs::Int4, Usage::Linear) => INT4,
        (WeightsAs::Int8 | WeightsAs::Int4, _) if matches!(format, Format::Int8(_)) => format,
        (WeightsAs::Int8 | WeightsAs::Int4, _) => INT8,
    };
    // A request for a packing concerns whatever is ternary.
    let wanted = match (options.packing, wanted) {
        (Some(packing), Format::Trit2(by) | Format::Trit5(by)) => packing.scaled(by),
        _ => wanted,
    };
    let (rows, cols) = (matrix.rows(), matrix.cols());
    match (format, wanted) {
        _ if format == wanted => Ok(matrix),
        (Format::Trit2(_) | Format::Trit5(_), Format::Trit2(_)) => matrix.repack(exec, Packing::Trit2),
        (Format::Trit2(_) | Format::Trit5(_), Format::Trit5(_)) => matrix.repack(exec, Packing::Trit5),
        // The absmean rule looks at the whole matrix.
        (_, Format::Trit2(_) | Format::Trit5(_)) => {
            Matrix::from_f32(exec, wanted, rows, cols, &matrix.to_f32())
        }
        _ => slabs::assemble(
            exec,
            wanted,
            (rows, cols),
            |error| error,
            |one, range| {
                let mut values = vec![0.0; range.len() * cols];
                for (row, out) in range.clone().zip(values.chunks_mut(cols)) {
                    // The row is inside the matrix and the slice as long as a row.
                    let _ = matrix.row(row, out);
                }
                Matrix::from_f32(one, wanted, range.len(), cols, &values)
            },
        ),
    }
}
