//! From a stored tensor to a matrix in kernel order, slab by slab.
//!
//! A slab is some whole tiles of rows. Each is decoded, brought into its final form and put at its place in
//! the matrix by one task, so memory beyond the finished matrix is a few slabs, whatever the tensor's size.
use std::ops::Range;
use std::sync::Mutex;

use chalot_formats::TensorType;
use chalot_formats::codec::{Decoded, Kind as Natural, TensorView};
use chalot_formats::hf::BitNetWeight;
use chalot_tensor::exec::Exec;
use chalot_tensor::matrix::{Format, Matrix, MatrixError, Packing, ScaleBy};

use super::assemble::Usage;
use super::slabs::{self, parallel};
use super::store::{Coding, Stored};
use super::{LoadOptions, WeightsAs};
use crate::error::ModelError;

/// The form a matrix takes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    /// Same values in another order: floats, int8 or int4 codes.
    Copy(Format),
    /// Ternary codes as they are.
    Ternary(Packing, ScaleBy),
    /// Ternary codes by the absmean rule, one scale for the matrix.
    Absmean(Packing),
    /// Rounded from the exact values, whatever holds them.
    From(Format),
}

/// The integer format for weights that no kernel keeps as they are.
pub(crate) const INT8: Format = Format::Int8(ScaleBy::Group(32));
pub(crate) const INT4: Format = Format::Int4 { mins: false };

/// One matrix.
pub(super) fn matrix(
    exec: &Exec,
    stored: &Stored,
    usage: Usage,
    options: &LoadOptions,
) -> Result<Matrix, ModelError> {
    let source = Source::new(stored)?;
    let form = form(exec, std::slice::from_ref(&source), usage, options)?;
    build(exec, &source, form)
}

/// Several matrices in one form (a layer's experts).
pub(super) fn alike(
    exec: &Exec,
    stored: &[&Stored],
    usage: Usage,
    options: &LoadOptions,
) -> Result<Vec<Matrix>, ModelError> {
    let sources = stored.iter().map(|stored| Source::new(stored)).collect::<Result<Vec<_>, _>>()?;
    let form = form(exec, &sources, usage, options)?;
    sources.iter().map(|source| build(exec, source, form)).collect()
}

/// A vector: a norm or a bias.
pub(super) fn vector(stored: &Stored) -> Result<Vec<f32>, ModelError> {
    let source = Source::new(stored)?;
    let mut out = vec![0.0; source.rows * source.cols];
    source.decode_f32(0..source.rows, &mut out)?;
    Ok(out)
}

/// A stored tensor, ready to be decoded by rows.
struct Source<'a> {
    stored: &'a Stored,
    rows: usize,
    cols: usize,
    data: Data<'a>,
}

enum Data<'a> {
    View(TensorView<'a>),
    Packed(BitNetWeight<'a>),
}

impl<'a> Source<'a> {
    fn new(stored: &'a Stored) -> Result<Self, ModelError> {
        let (rows, cols) = (stored.rows(), stored.cols());
        let data = match stored.coding {
            Coding::PackedBitnet => {
                let shape = [rows / 4, cols];
                Data::Packed(BitNetWeight::new(&stored.file, &stored.name, &shape, &stored.bytes)?)
            }
            Coding::Ggml(ty) | Coding::Absmean(ty) | Coding::Rounded(ty, _) | Coding::Codes(ty) => {
                Data::View(TensorView::new(&stored.file, &stored.name, ty, &[cols, rows], &stored.bytes)?)
            }
        };
        Ok(Self { stored, rows, cols, data })
    }

    /// What the file holds. Floats that are known to be codes count as ternary.
    fn natural(&self) -> Natural {
        match (&self.data, self.stored.coding) {
            (Data::Packed(_), _) | (Data::View(_), Coding::Codes(_)) => {
                Natural::Ternary { block: self.rows * self.cols }
            }
            (Data::View(view), _) => view.kind(),
        }
    }

    /// Some rows, multiplied by the tensor's own scale if it has one.
    fn decode(&self, rows: Range<usize>) -> Result<Decoded, ModelError> {
        let scale = self.stored.scale;
        let mut decoded = match (&self.data, self.stored.coding) {
            (Data::Packed(packed), _) => Decoded::Ternary {
                codes: packed.decode_rows(rows),
                block: self.rows * self.cols,
                scales: vec![1.0],
            },
            (Data::View(view), Coding::Codes(_)) => Decoded::Ternary {
                codes: self.float_codes(view, rows)?,
                block: self.rows * self.cols,
                scales: vec![1.0],
            },
            (Data::View(view), _) => view.decode_rows(rows)?,
        };
        if let Some(scale) = scale {
            let (values, mins) = match &mut decoded {
                Decoded::Float(values) => (values, None),
                Decoded::Ternary { scales, .. } | Decoded::Int8 { scales, .. } => (scales, None),
                Decoded::Int4 { scales, mins, .. } => (scales, mins.as_mut()),
            };
            values.iter_mut().chain(mins.into_iter().flatten()).for_each(|value| *value *= scale);
        }
        Ok(decoded)
    }

    fn float_codes(&self, view: &TensorView, rows: Range<usize>) -> Result<Vec<i8>, ModelError> {
        let mut values = vec![0.0; rows.len() * self.cols];
        view.decode_rows_f32(rows, &mut values)?;
        let code = |&value: &f32| match value {
            -1.0 => Ok(-1),
            0.0 => Ok(0),
            1.0 => Ok(1),
            _ => Err(self.stored.error(
                format!("the weight {value}"),
                "-1, 0 or 1, since quantization_config says that they are quantized already",
                "set quantization_mode to \"online\" if these are float weights",
            )),
        };
        values.iter().map(code).collect()
    }

    /// Some rows as floats.
    fn decode_f32(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), ModelError> {
        if let (Data::View(view), None, Coding::Ggml(_) | Coding::Absmean(_) | Coding::Rounded(..)) =
            (&self.data, self.stored.scale, self.stored.coding)
        {
            return Ok(view.decode_rows_f32(rows, out)?);
        }
        match self.decode(rows)? {
            Decoded::Float(values) => out.copy_from_slice(&values),
            Decoded::Ternary { codes, block, scales } => {
                for (index, (out, &code)) in out.iter_mut().zip(&codes).enumerate() {
                    *out = f32::from(code) * scales[index / block];
                }
            }
            Decoded::Int8 { codes, scales } => {
                for (index, (out, &code)) in out.iter_mut().zip(&codes).enumerate() {
                    *out = f32::from(code) * scales[index / 32];
                }
            }
            Decoded::Int4 { codes, scales, mins } => {
                for (index, (out, &code)) in out.iter_mut().zip(&codes).enumerate() {
                    let (scale, code) = (scales[index / 32], f32::from(code));
                    *out = mins.as_ref().map_or((code - 8.0) * scale, |mins| code * scale + mins[index / 32]);
                }
            }
        }
        Ok(())
    }

    fn failed(&self, source: MatrixError) -> ModelError {
        ModelError::Matrix { file: self.stored.file.clone(), tensor: self.stored.name.clone(), source }
    }
}

/// Chooses the form that all of `sources` take.
fn form(exec: &Exec, sources: &[Source], usage: Usage, options: &LoadOptions) -> Result<Form, ModelError> {
    let packing = options.packing.unwrap_or(Packing::Trit2);
    if usage == Usage::Router || options.weights == WeightsAs::F32 {
        return Ok(Form::From(Format::F32));
    }
    let natural = natural_form(exec, sources, packing)?;
    Ok(match (options.weights, usage) {
        (WeightsAs::Auto | WeightsAs::F32, _) | (_, Usage::Router) => natural,
        (WeightsAs::Ternary, Usage::Linear) => match natural {
            Form::Ternary(..) => natural,
            _ => Form::Absmean(packing),
        },
        (WeightsAs::Ternary, Usage::Embedding | Usage::Head) => natural,
        (WeightsAs::Int4, Usage::Linear) => match natural {
            Form::Copy(Format::Int4 { .. }) => natural,
            _ => Form::From(INT4),
        },
        (WeightsAs::Int8 | WeightsAs::Int4, _) => Form::From(INT8),
    })
}

/// The form closest to what the file holds.
fn natural_form(exec: &Exec, sources: &[Source], packing: Packing) -> Result<Form, ModelError> {
    let Some(first) = sources.first() else { return Ok(Form::From(Format::F32)) };
    match first.stored.coding {
        Coding::Absmean(_) => return Ok(Form::Absmean(packing)),
        Coding::Rounded(_, format) => return Ok(Form::From(format)),
        Coding::Ggml(_) | Coding::PackedBitnet | Coding::Codes(_) => {}
    }
    let natural = first.natural();
    let same = |source: &Source| {
        std::mem::discriminant(&source.natural()) == std::mem::discriminant(&natural)
            && source.stored.coding == first.stored.coding
    };
    if !sources.iter().all(same) {
        return Ok(Form::From(INT8));
    }
    Ok(match natural {
        Natural::Ternary { .. } => {
            let mut scale_by = ScaleBy::Tensor;
            for source in sources {
                scale_by = coarsest(exec, source, scale_by)?;
            }
            Form::Ternary(packing, scale_by)
        }
        Natural::Int8 => Form::Copy(INT8),
        Natural::Int4 { mins } => Form::Copy(Format::Int4 { mins }),
        // A scale beside float weights makes products that only f32 holds.
        Natural::Float if sources.iter().any(|source| source.stored.scale.is_some()) => {
            Form::From(Format::F32)
        }
        Natural::Float => match first.stored.coding {
            Coding::Ggml(TensorType::F32 | TensorType::F64) => Form::From(Format::F32),
            Coding::Ggml(TensorType::F16) => Form::Copy(Format::F16),
            Coding::Ggml(TensorType::BF16) => Form::Copy(Format::Bf16),
            _ => Form::From(INT8),
        },
    })
}

/// The coarsest scale granularity, not coarser than `at_least_as_fine`, that keeps a ternary tensor exact:
/// one scale allows the cheaper kernels, and files often repeat one scale in every block. A block of zeros
/// fits any scale.
fn coarsest(exec: &Exec, source: &Source, at_least_as_fine: ScaleBy) -> Result<ScaleBy, ModelError> {
    let Natural::Ternary { block } = source.natural() else { return Ok(at_least_as_fine) };
    let cols = source.cols;
    if block >= source.rows * cols {
        return Ok(at_least_as_fine);
    }
    let seen = Mutex::new((at_least_as_fine, None));
    parallel(exec, slabs::ranges(source.rows, cols), |rows| {
        if seen.lock().is_ok_and(|seen| matches!(seen.0, ScaleBy::Group(_))) {
            return Ok::<(), ModelError>(());
        }
        let Decoded::Ternary { codes, scales, .. } = source.decode(rows)? else { return Ok(()) };
        let blocks = codes.chunks(block).zip(&scales);
        let used = blocks.map(|(codes, &scale)| codes.iter().any(|&code| code != 0).then_some(scale));
        let used: Vec<Option<f32>> = used.collect();
        let Ok(mut seen) = seen.lock() else { return Ok(()) };
        for row in used.chunks(cols / block) {
            let mut row = row.iter().flatten();
            let Some(&scale) = row.next() else { continue };
            if row.any(|&other| other != scale) {
                seen.0 = ScaleBy::Group(block);
                break;
            }
            if *seen.1.get_or_insert(scale) != scale && seen.0 == ScaleBy::Tensor {
                seen.0 = ScaleBy::Row;
            }
        }
        Ok(())
    })?;
    Ok(seen.into_inner().map_or(ScaleBy::Group(block), |(scale_by, _)| scale_by))
}

/// Builds a matrix in a form that [`form`] chose for it.
fn build(exec: &Exec, source: &Source, form: Form) -> Result<Matrix, ModelError> {
    let (rows, cols) = (source.rows, source.cols);
    let failed = |error| source.failed(error);
    match form {
        // The rule's mean runs over the whole matrix, in the order that training uses.
        Form::Absmean(packing) => {
            let mut values = vec![0.0; rows * cols];
            let ranges = slabs::ranges(rows, cols);
            let slabs: Vec<_> = ranges.into_iter().zip(values.chunks_mut(slabs::rows(cols) * cols)).collect();
            parallel(exec, slabs, |(rows, out)| source.decode_f32(rows, out))?;
            Matrix::from_f32(exec, packing.scaled(ScaleBy::Tensor), rows, cols, &values).map_err(failed)
        }
        Form::Ternary(packing, scale_by) => {
            let tensor_scale = if scale_by == ScaleBy::Tensor { common_scale(source)? } else { 1.0 };
            slabs::assemble(exec, packing.scaled(scale_by), (rows, cols), failed, |one, rows| {
                let Decoded::Ternary { codes, block, scales } = source.decode(rows.clone())? else {
                    return Err(source.stored.error("floats", "ternary codes", super::DAMAGED));
                };
                let scales = match scale_by {
                    ScaleBy::Tensor => vec![tensor_scale],
                    ScaleBy::Row => row_scales(&codes, &scales, cols, block),
                    ScaleBy::Group(_) => scales,
                };
                Matrix::from_ternary(one, packing, rows.len(), cols, &codes, scale_by, &scales)
                    .map_err(failed)
            })
        }
        Form::Copy(format) => {
            slabs::assemble(exec, format, (rows, cols), failed, |one, rows| copy(source, one, format, rows))
        }
        Form::From(format) => slabs::assemble(exec, format, (rows, cols), failed, |one, rows| {
            let mut values = vec![0.0; rows.len() * cols];
            source.decode_f32(rows.clone(), &mut values)?;
            Matrix::from_f32(one, format, rows.len(), cols, &values).map_err(failed)
        }),
    }
}

/// Rows whose codes go over as they are.
fn copy(source: &Source, one: &Exec, format: Format, rows: Range<usize>) -> Result<Matrix, ModelError> {
    let (count, cols) = (rows.len(), source.cols);
    if let (Format::F16 | Format::Bf16, Data::View(view)) = (format, &source.data) {
        let bits = view.rows_u16(rows)?;
        let matrix = match format {
            Format::F16 => Matrix::from_f16_bits(one, count, cols, &bits),
            _ => Matrix::from_bf16_bits(one, count, cols, &bits),
        };
        return matrix.map_err(|error| source.failed(error));
    }
    match source.decode(rows)? {
        Decoded::Int8 { codes, scales } => {
            Matrix::from_int8(one, count, cols, &codes, ScaleBy::Group(32), &scales)
        }
        Decoded::Int4 { codes, scales, mins } => {
            Matrix::from_int4(one, count, cols, &codes, &scales, mins.as_deref())
        }
        Decoded::Float(values) => Matrix::from_f32(one, format, count, cols, &values),
        Decoded::Ternary { .. } => {
            return Err(source.stored.error("ternary codes", "integers", super::DAMAGED));
        }
    }
    .map_err(|error| source.failed(error))
}

/// The scale of the first block that is not all zeros; 1 where there is none.
fn common_scale(source: &Source) -> Result<f32, ModelError> {
    for rows in slabs::ranges(source.rows, source.cols) {
        if let Decoded::Ternary { codes, block, scales } = source.decode(rows)? {
            let used =
                codes.chunks(block).zip(&scales).find(|(codes, _)| codes.iter().any(|&code| code != 0));
            if let Some((_, &scale)) = used {
                return Ok(scale);
            }
        }
    }
    Ok(1.0)
}

/// For each row the scale of its first block that is not all zeros; 1 where there is none.
fn row_scales(codes: &[i8], scales: &[f32], cols: usize, block: usize) -> Vec<f32> {
    let rows = codes.chunks(cols).zip(scales.chunks((cols / block).max(1)));
    rows.map(|(codes, scales)| {
        let mut blocks = codes.chunks(block).zip(scales);
        blocks.find(|(codes, _)| codes.iter().any(|&code| code != 0)).map_or(1.0, |(_, &scale)| scale)
    })
    .collect()
}
