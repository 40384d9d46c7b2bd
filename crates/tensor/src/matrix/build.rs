//! Matrices from weights in row-major order.
//!
//! Tiles of rows are packed in parallel; the work is linear in the number of weights and the only large memory
//! is the image itself.
use std::sync::atomic::{AtomicUsize, Ordering};

use bytemuck::Pod;
use chalot_simd::AlignedVec;
use half::{bf16, f16};

use super::{
    Format, Matrix, MatrixError, MatrixSpec, Packing, ScaleBy,
    block::{self, Coding, NO_CODES},
    quantize,
    spec::{BLOCK, Layout, TILE_ROWS},
};
use crate::{exec::Exec, out::SharedOut};

/// One row on its way into the image.
struct Row<'a> {
    /// Unsigned codes, `[cols]`.
    codes: &'a mut [u8],
    /// `[segments]`
    scales: &'a mut [f32],
    /// `[segments]`; kept only by int4 with minima.
    mins: &'a mut [f32],
}

impl Matrix {
    /// A matrix of floats: cast (to nearest, halves to even) or quantized to `format`; `data` is `[rows][cols]`.
    ///
    /// Ternary formats follow the absmean rule: scale = mean magnitude (at least 1e-5) of the tensor, row or group,
    /// code = weight / scale rounded to even and clamped to -1..=1.
    ///
    /// # Errors
    /// When dimensions are zero or too large, the length of `data` is not `rows * cols`, or a weight to be
    /// quantized is not finite.
    pub fn from_f32(
        exec: &Exec,
        format: Format,
        rows: usize,
        cols: usize,
        data: &[f32],
    ) -> Result<Matrix, MatrixError> {
        let spec = MatrixSpec { format, rows, cols };
        let layout = Layout::of(&spec)?;
        check_len("weights", &[rows, cols], data.len())?;
        match format {
            Format::F32 => return pack_floats(exec, spec, layout, data, |x| x),
            Format::F16 => return pack_floats(exec, spec, layout, data, f16::from_f32),
            Format::Bf16 => return pack_floats(exec, spec, layout, data, bf16::from_f32),
            _ => {}
        }
        let sums = match format.scale_by() {
            Some(ScaleBy::Tensor) => sums_of_rows(exec, cols, data),
            _ => Vec::new(),
        };
        // A sum of magnitudes (in f64) is finite when they are.
        let bad = match format.scale_by() {
            Some(ScaleBy::Tensor) => sums.iter().position(|sum| !sum.is_finite()),
            _ => first(exec, rows, |row| all_are_finite(&data[row * cols..][..cols])),
        };
        if let Some(index) =
            bad.and_then(|row| (row * cols..data.len()).find(|&index| !data[index].is_finite()))
        {
            let (row, col, found) = (index / cols, index % cols, data[index].to_string());
            return Err(MatrixError::NotFinite { row, col, found, format });
        }
        let tensor_scale = quantize::absmean(sums, data.len());
        let group = format.group().unwrap_or(cols);
        pack_codes(exec, spec, layout, |row, out| {
            let groups = data[row * cols..][..cols].chunks(group).zip(out.codes.chunks_mut(group));
            let scales = out.scales.iter_mut().zip(&mut *out.mins);
            for ((x, codes), (scale, min)) in groups.zip(scales) {
                match format {
                    Format::Int4 { mins: false } => *scale = quantize::int4(x, codes),
                    Format::Int4 { mins: true } => (*scale, *min) = quantize::int4_min(x, codes),
                    Format::Int8(by) => {
                        let signed = bytemuck::cast_slice_mut(codes);
                        *scale = match by {
                            ScaleBy::Group(_) => quantize::int8_f16(x, signed),
                            _ => quantize::int8(x, signed),
                        };
                        codes.iter_mut().for_each(|code| *code = code.wrapping_add(128));
                    }
                    _ => {
                        *scale = match format.scale_by() {
                            Some(ScaleBy::Tensor) => tensor_scale,
                            _ => quantize::absmean([quantize::sum_abs(x)], x.len()),
                        };
                        for (code, &x) in codes.iter_mut().zip(x) {
                            *code = (quantize::ternary_code(x, *scale) + 1) as u8;
                        }
                    }
                }
            }
        })
    }

    /// A matrix of half-precision floats given by their bits, `[rows][cols]`; nothing is rounded.
    ///
    /// # Errors
    /// When dimensions are zero or too large or the length of `data` is not `rows * cols`.
    pub fn from_f16_bits(exec: &Exec, rows: usize, cols: usize, data: &[u16]) -> Result<Matrix, MatrixError> {
        let spec = MatrixSpec { format: Format::F16, rows, cols };
        let layout = Layout::of(&spec)?;
        check_len("weights", &[rows, cols], data.len())?;
        pack_floats(exec, spec, layout, data, |bits| bits)
    }

    /// A matrix of bfloat16 given by their bits, `[rows][cols]`; nothing is rounded.
    ///
    /// # Errors
    /// When dimensions are zero or too large or the length of `data` is not `rows * cols`.
    pub fn from_bf16_bits(
        exec: &Exec,
        rows: usize,
        cols: usize,
        data: &[u16],
    ) -> Result<Matrix, MatrixError> {
        let spec = MatrixSpec { format: Format::Bf16, rows, cols };
        let layout = Layout::of(&spec)?;
        check_len("weights", &[rows, cols], data.len())?;
        pack_floats(exec, spec, layout, data, |bits| bits)
    }

    /// A ternary matrix from codes -1, 0, 1 (`[rows][cols]`); weight = scale * code.
    ///
    /// `scales` is one scale, `[rows]`, or `[rows][groups]`.
    ///
    /// # Errors
    /// When dimensions are zero or too large, a length does not fit, a code is no ternary one, or the granularity
    /// does not exist.
    pub fn from_ternary(
        exec: &Exec,
        packing: Packing,
        rows: usize,
        cols: usize,
        codes: &[i8],
        scale_by: ScaleBy,
        scales: &[f32],
    ) -> Result<Matrix, MatrixError> {
        let spec = MatrixSpec { format: packing.scaled(scale_by), rows, cols };
        let layout = Layout::of(&spec)?;
        check_len("codes", &[rows, cols], codes.len())?;
        check_scales("scales", &spec, scales.len())?;
        if let Some(row) =
            first(exec, rows, |row| codes[row * cols..][..cols].iter().all(|code| (-1..=1).contains(code)))
        {
            let codes = &codes[row * cols..][..cols];
            return Err(bad_code(row, codes.iter().map(|&code| i32::from(code)), -1, 1));
        }
        pack_codes(exec, spec, layout, |row, out| {
            for (out, code) in out.codes.iter_mut().zip(&codes[row * cols..]) {
                *out = (code + 1) as u8;
            }
            copy_scales(scale_by, row, scales, out.scales);
        })
    }

    /// An 8-bit matrix from its codes (`[rows][cols]`); weight = scale * code.
    ///
    /// `scales` is `[rows]`, or for [`ScaleBy::Group`] of 32 `[rows][groups]`, which are kept as f16.
    ///
    /// # Errors
    /// When dimensions are zero or too large, a length does not fit, or the granularity does not exist.
    pub fn from_int8(
        exec: &Exec,
        rows: usize,
        cols: usize,
        codes: &[i8],
        scale_by: ScaleBy,
        scales: &[f32],
    ) -> Result<Matrix, MatrixError> {
        let spec = MatrixSpec { format: Format::Int8(scale_by), rows, cols };
        let layout = Layout::of(&spec)?;
        check_len("codes", &[rows, cols], codes.len())?;
        check_scales("scales", &spec, scales.len())?;
        pack_codes(exec, spec, layout, |row, out| {
            for (out, code) in out.codes.iter_mut().zip(&codes[row * cols..]) {
                *out = (*code as u8).wrapping_add(128);
            }
            copy_scales(scale_by, row, scales, out.scales);
        })
    }

    /// A 4-bit matrix in groups of 32 columns from its codes 0..=15 (`[rows][cols]`): weight = scale * (code - 8),
    /// or with `mins`, scale * code + min.
    ///
    /// `scales` and `mins` are `[rows][groups]` and kept as f16.
    ///
    /// # Errors
    /// When dimensions are zero or too large, a length does not fit, or a code exceeds 15.
    pub fn from_int4(
        exec: &Exec,
        rows: usize,
        cols: usize,
        codes: &[u8],
        scales: &[f32],
        mins: Option<&[f32]>,
    ) -> Result<Matrix, MatrixError> {
        let spec = MatrixSpec { format: Format::Int4 { mins: mins.is_some() }, rows, cols };
        let layout = Layout::of(&spec)?;
        check_len("codes", &[rows, cols], codes.len())?;
        check_scales("scales", &spec, scales.len())?;
        if let Some(mins) = mins {
            check_scales("minima", &spec, mins.len())?;
        }
        if let Some(row) = first(exec, rows, |row| codes[row * cols..][..cols].iter().all(|&code| code < 16))
        {
            let codes = &codes[row * cols..][..cols];
            return Err(bad_code(row, codes.iter().map(|&code| i32::from(code)), 0, 15));
        }
        pack_codes(exec, spec, layout, |row, out| {
            out.codes.copy_from_slice(&codes[row * cols..][..cols]);
            copy_scales(ScaleBy::Group(Format::INT_GROUP), row, scales, out.scales);
            if let Some(mins) = mins {
                copy_scales(ScaleBy::Group(Format::INT_GROUP), row, mins, out.mins);
            }
        })
    }

    /// The same ternary matrix in another packing; exact.
    ///
    /// A damaged image's codes outside -1..=1 are clamped into it.
    ///
    /// # Errors
    /// When the matrix is not ternary.
    pub fn repack(&self, exec: &Exec, packing: Packing) -> Result<Matrix, MatrixError> {
        let format = self.format();
        let (Some(now), Some(scale_by)) = (format.packing(), format.scale_by()) else {
            return Err(MatrixError::NotTernary { format });
        };
        if now == packing {
            return Ok(self.clone());
        }
        let spec = MatrixSpec { format: packing.scaled(scale_by), ..self.spec };
        pack_codes(exec, spec, Layout::of(&spec)?, |row, out| {
            self.codes(row, |segment, first, codes| {
                out.scales[segment] = self.scale(row, segment);
                for (out, code) in out.codes[first..].iter_mut().zip(codes) {
                    *out = (code + 1).clamp(0, 2) as u8;
                }
            });
        })
    }
}

/// The number of scales that row-major arguments hold.
fn check_scales(what: &'static str, spec: &MatrixSpec, found: usize) -> Result<(), MatrixError> {
    match spec.format.scale_by() {
        None => MatrixError::check_len(what, 0, found),
        Some(ScaleBy::Tensor) => MatrixError::check_len(what, 1, found),
        Some(ScaleBy::Row) => MatrixError::check_len(what, spec.rows, found),
        Some(ScaleBy::Group(group)) => check_len(what, &[spec.rows, spec.cols.div_ceil(group)], found),
    }
}

fn check_len(what: &'static str, dims: &[usize], found: usize) -> Result<(), MatrixError> {
    // Saturating: a product that overflows is no slice's length.
    MatrixError::check_len(what, dims.iter().fold(1, |a, &b| a.saturating_mul(b)), found)
}

fn bad_code(row: usize, codes: impl Iterator<Item = i32>, min: i32, max: i32) -> MatrixError {
    let bad = codes.enumerate().find(|(_, code)| !(min..=max).contains(code));
    let (col, found) = bad.unwrap_or((0, min));
    MatrixError::Code { row, col, found, min, max }
}

fn copy_scales(scale_by: ScaleBy, row: usize, scales: &[f32], out: &mut [f32]) {
    match scale_by {
        ScaleBy::Tensor => out[0] = scales[0],
        _ => out.copy_from_slice(&scales[row * out.len()..][..out.len()]),
    }
}

/// The first row of which `good` does not hold.
fn first(exec: &Exec, rows: usize, good: impl Fn(usize) -> bool + Sync) -> Option<usize> {
    let first = AtomicUsize::new(usize::MAX);
    exec.pool.run(rows.div_ceil(TILE_ROWS), &|tile| {
        let rows = tile * TILE_ROWS..rows.min((tile + 1) * TILE_ROWS);
        if let Some(row) = rows.into_iter().find(|&row| !good(row)) {
            first.fetch_min(row, Ordering::Relaxed);
        }
    });
    Some(first.into_inner()).filter(|&row| row != usize::MAX)
}

/// The sum of magnitudes of each row.
fn sums_of_rows(exec: &Exec, cols: usize, data: &[f32]) -> Vec<f64> {
    let mut sums = vec![0.0; data.len() / cols];
    let shared = SharedOut::new(&mut sums);
    exec.pool.run(shared.len().div_ceil(TILE_ROWS), &|tile| {
        let start = tile * TILE_ROWS;
        // SAFETY: each tile of rows is one task.
        let sums = unsafe { shared.part(start, TILE_ROWS.min(shared.len() - start)) };
        let row = |row: usize| &data[(start + row) * cols..][..cols];
        let (fours, rest) = sums.as_chunks_mut::<4>();
        for (four, sums) in fours.iter_mut().enumerate() {
            *sums = quantize::sums_abs(std::array::from_fn(|i| row(4 * four + i)));
        }
        for (i, sum) in rest.iter_mut().enumerate() {
            *sum = quantize::sum_abs(row(4 * fours.len() + i));
        }
    });
    sums
}

/// All of them are looked at, which is faster than stopping at the first.
fn all_are_finite(x: &[f32]) -> bool {
    x.iter().fold(true, |all, x| all & x.is_finite())
}

/// `[rows][cols]` to `[tile][col][16 rows]`, each element through `cast`.
fn pack_floats<S: Copy + Sync, T: Pod + Send>(
    exec: &Exec,
    spec: MatrixSpec,
    layout: Layout,
    data: &[S],
    cast: impl Fn(S) -> T + Sync,
) -> Result<Matrix, MatrixError> {
    let cols = spec.cols;
    let mut image = AlignedVec::<T>::zeroed(layout.image_len / size_of::<T>());
    let shared = SharedOut::new(&mut image);
    exec.pool.run(layout.tiles, &|tile| {
        // SAFETY: each tile is packed by one task.
        let columns = unsafe { shared.part(tile * cols * TILE_ROWS, cols * TILE_ROWS) };
        let rows = data[tile * TILE_ROWS * cols..].chunks_exact(cols).take(TILE_ROWS);
        for (lane, row) in rows.enumerate() {
            for (column, &x) in columns.as_chunks_mut::<TILE_ROWS>().0.iter_mut().zip(row) {
                column[lane] = cast(x);
            }
        }
    });
    Matrix::from_image(spec, image.into_bytes())
}

/// An integer image whose rows are made by `fill`.
fn pack_codes(
    exec: &Exec,
    spec: MatrixSpec,
    layout: Layout,
    fill: impl Fn(usize, Row<'_>) + Sync,
) -> Result<Matrix, MatrixError> {
    let (Some(coding), Some(blocks)) = (Coding::of(spec.format), layout.blocks) else {
        unreachable!("{} is packed as floats", spec.format)
    };
    let segments = blocks.segments;
    let block_cols = 4 * blocks.quads;
    // Rows in the scratch start and segments are padded to whole blocks.
    let row_stride = blocks.tile_blocks * block_cols;
    let segment_stride = blocks.segment_blocks * block_cols;
    let mut image = AlignedVec::<u8>::zeroed(layout.image_len);
    let shared = SharedOut::new(&mut image);
    exec.pool.run(layout.tiles, &|tile| {
        let mut row_codes = vec![0; spec.cols];
        let mut codes = vec![0; TILE_ROWS * row_stride];
        let mut scales = vec![0.0; TILE_ROWS * segments];
        let mut mins = vec![0.0; TILE_ROWS * segments];
        for lane in 0..TILE_ROWS.min(spec.rows - tile * TILE_ROWS) {
            fill(
                tile * TILE_ROWS + lane,
                Row {
                    codes: &mut row_codes,
                    scales: &mut scales[lane * segments..][..segments],
                    mins: &mut mins[lane * segments..][..segments],
                },
            );
            let row = &mut codes[lane * row_stride..][..row_stride];
            for (to, from) in row.chunks_mut(segment_stride).zip(row_codes.chunks(blocks.segment_cols)) {
                to[..from.len()].copy_from_slice(from);
            }
        }
        // SAFETY: each tile is packed by one task.
        let bytes =
            unsafe { shared.part(layout.weights.start + tile * layout.tile_bytes, layout.tile_bytes) };
        for (index, bytes) in bytes.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            let mut unpacked = NO_CODES;
            for lane in 0..TILE_ROWS {
                let row = &codes[lane * row_stride + index * block_cols..][..block_cols];
                for (quad, four) in row.as_chunks::<4>().0.iter().enumerate() {
                    unpacked[quad][block::lane(lane, 0)..][..4].copy_from_slice(four);
                }
            }
            *bytes = coding.pack(&unpacked);
        }
        let f16s = |part: &std::ops::Range<usize>, values: &[f32]| {
            let len = 2 * TILE_ROWS * segments;
            // SAFETY: each tile is packed by one task.
            let out = unsafe { shared.part(part.start + tile * len, len) };
            for (index, out) in out.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let (segment, lane) = (index / TILE_ROWS, index % TILE_ROWS);
                *out = f16::from_f32(values[lane * segments + segment]).to_le_bytes();
            }
        };
        match spec.format.scale_by() {
            None => {}
            Some(ScaleBy::Tensor) if tile > 0 => {}
            Some(ScaleBy::Tensor) => {
                // SAFETY: only the task of tile 0 writes the one scale.
                unsafe { shared.part(layout.scales.start, 4) }.copy_from_slice(&scales[0].to_le_bytes());
            }
            Some(ScaleBy::Group(_)) if spec.format.packing().is_none() => f16s(&layout.scales, &scales),
            Some(_) => {
                let len = 4 * TILE_ROWS * segments;
                // SAFETY: each tile is packed by one task.
                let out = unsafe { shared.part(layout.scales.start + tile * len, len) };
                for (index, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                    let (segment, lane) = (index / TILE_ROWS, index % TILE_ROWS);
                    *out = scales[lane * segments + segment].to_le_bytes();
                }
            }
        }
        if !layout.mins.is_empty() {
            f16s(&layout.mins, &mins);
        }
    });
    Matrix::from_image(spec, image.into_bytes())
}
