//! Products of several inputs in one fork and join: the experts of a layer, side by side.
use super::{
    Vectors,
    gated::{self, Factor, GatedJob},
    product::work,
    project::{Projection, run_all},
};
use crate::{
    activations::{Activations, Order},
    elementwise::Activation,
    exec::{Exec, ShapeError},
};

/// Products of one fork and join, at most; more come in turns. Enough for the experts that a token visits.
const AT_ONCE: usize = 16;

/// The first half of a gated network, `y = act(gate) * up`, to be computed of one of several inputs.
#[derive(Debug)]
pub struct GatedProjection<'a> {
    /// Number of the input.
    pub input: usize,
    /// The factor that the activation is applied to.
    pub gate: Factor<'a>,
    /// The other factor; of the same shape.
    pub up: Factor<'a>,
    /// `[m][rows]`, m being the input's.
    pub y: &'a mut [f32],
}

/// Projections, each of the input whose number stands beside it, as [`project`](super::project) would make them one after
/// the other: the same bits, fewer forks and joins, and a network with little work does not leave threads idle.
///
/// # Errors
/// As [`project`](super::project); when there is no such input. Projections before the one that fails may have been made.
pub fn project_each<'a>(
    exec: &Exec,
    inputs: &mut [Activations],
    projections: impl IntoIterator<Item = (usize, Projection<'a>)>,
) -> Result<(), ShapeError> {
    in_turns(projections, |batch| {
        for (input, projection) in batch.iter().flatten() {
            projection.check_for("project_each", of(inputs, *input)?)?;
        }
        let Some(vectors) = Vectors::of(exec.isa) else {
            for (input, projection) in batch.iter_mut().filter_map(Option::take) {
                projection.by_reference(exec, &inputs[input])?;
            }
            return Ok(());
        };
        let order = |w, x: &Activations| Order::of(exec, x.m(), [w]);
        for (input, projection) in batch.iter().flatten() {
            let x = &mut inputs[*input];
            x.make_for(exec, projection.w, order(projection.w, x))?;
        }
        let works = batch.iter().flatten().map(|(input, to)| work(to.w, inputs[*input].m()));
        let all = works.sum();
        let jobs = batch.each_mut().map(|entry| {
            let (input, projection) = entry.take().filter(|(input, _)| inputs[*input].m() > 0)?;
            let x = &inputs[input];
            let order = order(projection.w, x);
            Some(projection.job(exec, (x, order), all))
        });
        run_all(
            exec,
            jobs.iter().flatten(),
            |(job, _)| job.split.count(),
            |(job, y), task| job.run(exec, vectors, &job.split.piece(task), *y),
        );
        Ok(())
    })
}

/// First halves of gated networks, as [`project_gated`](super::project_gated) would make them one after the other.
///
/// # Errors
/// As [`project_each`]; when `gate`, `up` and `y` of a network differ in shape.
pub fn project_gated_each<'a>(
    exec: &Exec,
    act: Activation,
    inputs: &mut [Activations],
    networks: impl IntoIterator<Item = GatedProjection<'a>>,
) -> Result<(), ShapeError> {
    const OP: &str = "project_gated_each";
    in_turns(networks, |batch| {
        for GatedProjection { input, gate, up, y } in batch.iter().flatten() {
            gated::check(OP, of(inputs, *input)?, (gate, up), y)?;
        }
        let Some(vectors) = Vectors::of(exec.isa) else {
            for GatedProjection { input, gate, up, y } in batch.iter_mut().filter_map(Option::take) {
                gated::by_reference(exec, act, &inputs[input], (gate, up), y)?;
            }
            return Ok(());
        };
        for GatedProjection { input, gate, up, .. } in batch.iter().flatten() {
            gated::make_for(exec, &mut inputs[*input], (gate, up))?;
        }
        let works = batch.iter().flatten().map(|network| work(network.gate.w, inputs[network.input].m()));
        let all = works.sum();
        let jobs = batch.each_mut().map(|entry| {
            let GatedProjection { input, gate, up, y } = entry.take()?;
            let x = Some(&inputs[input]).filter(|x| x.m() > 0)?;
            Some(GatedJob::new(exec, x, (gate, up), y, all))
        });
        let run = |job: &GatedJob<'_>, task| job.run((exec, act, vectors), task);
        run_all(exec, jobs.iter().flatten(), GatedJob::count, run);
        Ok(())
    })
}

fn of(inputs: &[Activations], number: usize) -> Result<&Activations, ShapeError> {
    inputs.get(number).ok_or(ShapeError {
        op: "project_each",
        what: "number of an input, of which the caller",
        expected: inputs.len(),
        found: number,
    })
}

/// Calls `each` with the items, some at a time.
fn in_turns<T>(
    items: impl IntoIterator<Item = T>,
    mut each: impl FnMut(&mut [Option<T>; AT_ONCE]) -> Result<(), ShapeError>,
) -> Result<(), ShapeError> {
    let mut items = items.into_iter().fuse();
    loop {
        let mut batch = std::array::from_fn(|_| items.next());
        if batch[0].is_none() {
            return Ok(());
        }
        each(&mut batch)?;
    }
}

#[cfg(test)]
mod tests {
    use chalot_simd::Isa;

    use super::*;
    use crate::{
        linear::{project, project_gated},
        matrix::Matrix,
        testing::{Random, bits, formats, random_matrix},
    };

    const COLS: usize = 130;
    const ROWS: usize = 90;

    fn factors<'a>([gate, up]: &'a [Matrix; 2], bias: &'a [f32]) -> [Factor<'a>; 2] {
        [(gate, Some(bias)), (up, None)].map(|(w, bias)| Factor { w, bias, kept: None })
    }

    /// More networks than go at once, of inputs of different lengths (none among them), every format beside others.
    #[test]
    fn side_by_side_and_one_after_the_other_are_equal() {
        let mut random = Random(21);
        let lengths = [1, 5, 0, 40, 2];
        let networks: Vec<(usize, [Matrix; 2], Vec<f32>)> = (0..formats().len() + AT_ONCE)
            .map(|i| {
                let format = formats()[i % formats().len()];
                let matrices = [(); 2].map(|()| random_matrix(&mut random, format, ROWS, COLS));
                (i % lengths.len(), matrices, random.floats(ROWS))
            })
            .collect();
        let rows = lengths.map(|m| random.floats(m * COLS));
        for exec in Isa::available().into_iter().flat_map(|isa| [Exec::new(isa, 1), Exec::new(isa, 3)]) {
            let mut inputs = [(); 5].map(|()| Activations::new());
            for ((input, m), rows) in inputs.iter_mut().zip(lengths).zip(&rows) {
                input.set(m, COLS).copy_from_slice(rows);
            }
            let outputs = || -> Vec<Vec<f32>> {
                networks.iter().map(|&(input, ..)| vec![f32::NAN; lengths[input] * ROWS]).collect()
            };
            let [mut gated, mut plain] = [(); 2].map(|()| outputs());
            let each = networks.iter().zip(&mut plain);
            let each = each.map(|((input, [w, _], bias), y)| (*input, Projection { w, bias: Some(bias), y }));
            project_each(&exec, &mut inputs, each).unwrap();
            let each = networks.iter().zip(&mut gated);
            let each = each.map(|((input, matrices, bias), y)| {
                let [gate, up] = factors(matrices, bias);
                GatedProjection { input: *input, gate, up, y }
            });
            project_gated_each(&exec, Activation::Silu, &mut inputs, each).unwrap();

            let mut expected = outputs();
            for (i, (input, matrices, bias)) in networks.iter().enumerate() {
                let x = &mut inputs[*input];
                let both = factors(matrices, bias).into();
                project_gated(&exec, Activation::Silu, x, both, &mut expected[i]).unwrap();
                assert_eq!(bits(&gated[i]), bits(&expected[i]), "gated, network {i}, {exec:?}");
                let to = Projection { w: &matrices[0], bias: Some(bias), y: &mut expected[i] };
                project(&exec, x, [to]).unwrap();
                assert_eq!(bits(&plain[i]), bits(&expected[i]), "network {i}, {exec:?}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let exec = Exec::new(Isa::best(), 1);
        let w = random_matrix(&mut Random(3), "f32".parse().unwrap(), 4, 8);
        let mut inputs = [Activations::new()];
        inputs[0].set(2, 8).fill(0.0);
        let mut y = [0.0; 8];
        let mut project = |input, y: &mut [f32]| {
            project_each(&exec, &mut inputs, [(input, Projection { w: &w, bias: None, y })])
        };
        assert_eq!(project(0, &mut y), Ok(()));
        assert_eq!(project(0, &mut y[..7]).unwrap_err().what, "y");
        let error = project(1, &mut y).unwrap_err();
        assert_eq!((error.expected, error.found), (1, 1));
        let mut y_of_other_length = [0.0; 4];
        let network = GatedProjection {
            input: 0,
            gate: Factor { w: &w, bias: None, kept: None },
            up: Factor { w: &w, bias: None, kept: None },
            y: &mut y_of_other_length,
        };
        let error = project_gated_each(&exec, Activation::Silu, &mut inputs, [network]).unwrap_err();
        assert_eq!((error.what, error.expected, error.found), ("y", 8, 4));
    }
}
