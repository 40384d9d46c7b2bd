//! A matrix made of slabs: whole tiles of rows that are built apart and lie one after the other.
use std::ops::Range;
use std::sync::Mutex;

use chalot_simd::AlignedVec;
use chalot_tensor::exec::Exec;
use chalot_tensor::matrix::{Format, Matrix, MatrixError, MatrixSpec, ScaleBy};

/// Rows of a tile; slabs are whole tiles.
const TILE: usize = 16;
/// Weights of a slab: as f32 they are 1 MiB, which stays in the second-level cache.
const SLAB: usize = 1 << 18;

/// Rows of a slab of a matrix with `cols` columns.
pub(super) fn rows(cols: usize) -> usize {
    (SLAB / cols.max(1)).next_multiple_of(TILE).max(TILE)
}

/// The slabs of a matrix: all of [`rows`] rows but the last.
pub(super) fn ranges(count: usize, cols: usize) -> Vec<Range<usize>> {
    let step = rows(cols);
    (0..count).step_by(step).map(|start| start..count.min(start + step)).collect()
}

/// Runs `work` on every item, on all threads; the error of the first item that fails is returned.
pub(super) fn parallel<T: Send, E: Send>(
    exec: &Exec,
    items: Vec<T>,
    work: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let failure: Mutex<Option<(usize, E)>> = Mutex::new(None);
    exec.pool.run(items.len(), &|index| {
        let Some(item) = items[index].lock().ok().and_then(|mut item| item.take()) else { return };
        if let Err(error) = work(item)
            && let Ok(mut failure) = failure.lock()
            && failure.as_ref().is_none_or(|(earlier, _)| index < *earlier)
        {
            *failure = Some((index, error));
        }
    });
    match failure.into_inner().ok().flatten() {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// A slab: its rows, and its part of the image's weights, scales and minimums.
type Place<'a> = (Range<usize>, [&'a mut [u8]; 3]);

/// Builds a matrix of `rows` by `cols` from the slabs that `slab` makes of some rows. Slabs run in parallel,
/// each on the one-threaded `Exec` it is given.
pub(super) fn assemble<E: Send>(
    exec: &Exec,
    format: Format,
    (rows, cols): (usize, usize),
    failed: impl Fn(MatrixError) -> E + Sync,
    slab: impl Fn(&Exec, Range<usize>) -> Result<Matrix, E> + Sync,
) -> Result<Matrix, E> {
    let one = Exec::new(exec.isa, 1);
    let ranges = ranges(rows, cols);
    if ranges.len() <= 1 {
        return slab(&one, 0..rows);
    }
    let spec = MatrixSpec { format, rows, cols };
    let mut image = AlignedVec::<u8>::zeroed(spec.image_len().map_err(&failed)?);
    parallel(exec, places(&spec, &mut image, ranges), |(rows, [weights, scales, mins])| {
        let part = slab(&one, rows)?;
        let (spec, bytes) = (part.spec(), part.image());
        for (out, part) in [(weights, spec.weights()), (scales, spec.scales()), (mins, spec.mins())] {
            // No place was given to a scale of the whole matrix but in the first slab.
            if !out.is_empty() {
                out.copy_from_slice(&bytes[part]);
            }
        }
        Ok(())
    })?;
    Matrix::from_image(spec, image.into_bytes()).map_err(failed)
}

/// Cuts an image along slabs: in each part, tiles lie one after the other, all of one length.
fn places<'a>(spec: &MatrixSpec, image: &'a mut [u8], ranges: Vec<Range<usize>>) -> Vec<Place<'a>> {
    let tiles = spec.rows.div_ceil(TILE);
    let parts = [spec.weights(), spec.scales(), spec.mins()];
    let mut rest = image;
    let mut end = 0;
    let mut parts = parts.map(|part| {
        let (_, tail) = std::mem::take(&mut rest).split_at_mut(part.start - end);
        let (bytes, tail) = tail.split_at_mut(part.len());
        (rest, end) = (tail, part.end);
        (part.len() / tiles, bytes)
    });
    if spec.format.scale_by() == Some(ScaleBy::Tensor) {
        // One scale for all: the first slab takes it, and `split_off_mut` gives the others nothing.
        parts[1].0 = 0;
    }
    let place = |rows: Range<usize>| {
        let slab = parts.each_mut().map(|(tile, bytes)| {
            let len = if *tile == 0 { bytes.len() } else { *tile * rows.len().div_ceil(TILE) };
            bytes.split_off_mut(..len).unwrap_or_default()
        });
        (rows, slab)
    };
    ranges.into_iter().map(place).collect()
}
