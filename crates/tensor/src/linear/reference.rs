//! The definition of products, written to be obvious; every kernel equals it bit for bit. It is also the kernel
//! where there are no vector instructions.
//!
//! For each token and each output, with f32 arithmetic throughout:
//!
//! - **Float weights**: `acc = 0; for k ascending: acc = fma(w[k], x[k], acc)`.
//! - **Integer weights**: the activations are integers `q` with a factor for each segment (see
//!   [`Activations`](crate::Activations)), and a segment's sum is an exact integer, `isum = sum of code * q`.
//!   `acc = 0; for segments ascending: acc = fma(isum as f32, scale * factor, acc)`, and where groups have minima,
//!   then `acc = fma(min, factor * (sum of q) as f32, acc)`.
//!
//! A matrix scaled by tensor or row is one segment.
use crate::{
    activations::reference::quantize_segment,
    exec::Exec,
    matrix::{Format, Matrix, TILE_ROWS},
    out::SharedOut,
};

/// `y[m][rows] = x[m][cols] * w^T`; lengths are as they should be.
pub(super) fn matmul(exec: &Exec, w: &Matrix, x: &[f32], y: &mut [f32]) {
    let (rows, cols) = (w.rows(), w.cols());
    let tokens = match w.format() {
        Format::F32 | Format::F16 | Format::Bf16 => Vec::new(),
        _ => x.chunks_exact(cols).map(|x| Token::quantize(w, x)).collect(),
    };
    let y = SharedOut::new(y);
    exec.pool.run(rows.div_ceil(TILE_ROWS), &|tile| {
        for row in tile * TILE_ROWS..rows.min((tile + 1) * TILE_ROWS) {
            let product = if tokens.is_empty() { float_row(w, row, x) } else { integer_row(w, row, &tokens) };
            for (token, product) in product.into_iter().enumerate() {
                // SAFETY: each row belongs to one tile, which is one task.
                let out = unsafe { y.part(token * rows + row, 1) };
                out[0] = product;
            }
        }
    });
}

fn float_row(w: &Matrix, row: usize, x: &[f32]) -> Vec<f32> {
    let mut weights = vec![0.0; w.cols()];
    w.row(row, &mut weights).unwrap_or_else(|error| unreachable!("{error}"));
    x.chunks_exact(w.cols())
        .map(|x| weights.iter().zip(x).fold(0.0, |acc: f32, (&w, &x)| w.mul_add(x, acc)))
        .collect()
}

/// One token as integers, natural order.
struct Token {
    q: Vec<i8>,
    /// For each segment, its factor and the sum of its integers.
    segments: Vec<(f32, i32)>,
}

impl Token {
    fn quantize(w: &Matrix, x: &[f32]) -> Token {
        let group = w.format().group();
        let cols = group.unwrap_or(x.len());
        let mut q = vec![0; x.len()];
        let segments = x
            .chunks(cols)
            .zip(q.chunks_mut(cols))
            .map(|(x, q)| quantize_segment(group.is_none(), x, q))
            .collect();
        Token { q, segments }
    }
}

fn integer_row(w: &Matrix, row: usize, tokens: &[Token]) -> Vec<f32> {
    let mins = w.format() == Format::Int4 { mins: true };
    let mut acc = vec![0.0_f32; tokens.len()];
    w.codes(row, |segment, first, codes| {
        let scale = w.scale(row, segment);
        for (acc, token) in acc.iter_mut().zip(tokens) {
            let (factor, qsum) = token.segments[segment];
            let q = &token.q[first..][..codes.len()];
            // Cannot overflow: see `MatrixSpec::MAX_INTEGER_COLS`.
            let isum: i32 = codes.iter().zip(q).map(|(&code, &q)| i32::from(code) * i32::from(q)).sum();
            *acc = (isum as f32).mul_add(scale * factor, *acc);
            if mins {
                *acc = w.min(row, segment).mul_add(factor * qsum as f32, *acc);
            }
        }
    });
    acc
}
