use chalot_simd::Isa;
use half::f16;
use proptest::prelude::*;

use super::{
    reference::{Query, Stored},
    *,
};
use crate::testing::Random;

fn numbers(random: &mut Random, n: usize, scale: f32) -> Vec<f32> {
    random.floats(n).iter().map(|x| x * scale).collect()
}

/// Queries of the last `m` of `total` positions, and keys and values of all.
struct Case {
    params: AttentionParams,
    ty: KvType,
    total: usize,
    m: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Case {
    fn new(params: AttentionParams, ty: KvType, total: usize, m: usize, size: f32) -> Self {
        let mut random = Random(total as u64 * 1000 + m as u64 + 1);
        let q = numbers(&mut random, m * params.heads * params.head_dim, size);
        let k = numbers(&mut random, total * params.kv_heads * params.head_dim, 1.0);
        let v = numbers(&mut random, total * params.kv_heads * params.head_dim, 2.0);
        Self { params, ty, total, m, q, k, v }
    }

    /// Blocks whose unused slots are full of NaN.
    fn blocks(&self, exec: &Exec) -> Vec<KvBlock> {
        let AttentionParams { kv_heads, head_dim, .. } = self.params;
        let nan = vec![f32::NAN; 64 * kv_heads * head_dim];
        let token = 64 * kv_heads * head_dim;
        self.k
            .chunks(token)
            .zip(self.v.chunks(token))
            .map(|(k, v)| {
                let mut block = KvBlock::new(self.ty, kv_heads, head_dim);
                block.write(exec, 0, &nan, &nan).unwrap();
                block.write(exec, 0, k, v).unwrap();
                block
            })
            .collect()
    }

    fn run_on(&self, exec: &Exec, blocks: &[KvBlock]) -> Vec<f32> {
        let mut out = vec![f32::NAN; self.q.len()];
        let first = self.total - self.m;
        attention(exec, &self.params, &mut AttentionScratch::new(), &self.q, first, blocks, &mut out)
            .unwrap();
        out
    }

    fn run(&self, exec: &Exec) -> Vec<f32> {
        self.run_on(exec, &self.blocks(exec))
    }

    /// `f` of every query, in the order of `q`.
    fn each<T>(&self, f: impl Fn(&Query<'_>) -> Vec<T>) -> Vec<T> {
        let AttentionParams { heads, kv_heads, head_dim, window, .. } = self.params;
        let stored = |x: &[f32], kv_head: usize| -> Stored {
            let rows: Vec<f32> =
                x.chunks_exact(head_dim).skip(kv_head).step_by(kv_heads).flatten().copied().collect();
            match self.ty {
                KvType::F32 => Stored::Floats(rows),
                KvType::F16 => Stored::Floats(rows.iter().map(|x| f16::from_f32(*x).to_f32()).collect()),
                KvType::Int8 => Stored::codes(&rows, head_dim),
            }
        };
        let planes: Vec<_> = (0..kv_heads).map(|h| (stored(&self.k, h), stored(&self.v, h))).collect();
        self.q
            .chunks_exact(head_dim)
            .enumerate()
            .flat_map(|(i, q)| {
                let position = self.total - self.m + i / heads;
                let (keys, values) = &planes[i % heads / (heads / kv_heads)];
                let start = window.map_or(0, |w| (position + 1).saturating_sub(w));
                f(&Query { params: &self.params, q, visible: (start, position + 1), keys, values })
            })
            .collect()
    }
}

fn params(heads: usize, kv_heads: usize, head_dim: usize) -> AttentionParams {
    let scale = 1.0 / (head_dim as f32).sqrt();
    AttentionParams { heads, kv_heads, head_dim, scale, soft_cap: None, window: None }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

/// Every ISA, one and three threads, has the bits of the reference; which is near the formula.
fn check(case: &Case, tolerance: f64) {
    // Queries and weights of 16 bits.
    let tolerance = if case.ty == KvType::Int8 { 50.0 * tolerance } else { tolerance };
    let expected = case.each(|q| q.attend());
    let textbook = case.each(|q| q.textbook());
    for (e, t) in expected.iter().zip(&textbook) {
        assert!((f64::from(*e) - t).abs() <= tolerance * t.abs().max(1.0), "{e} is not {t}");
    }
    for isa in Isa::available() {
        for threads in [1, 3] {
            let exec = Exec::new(isa, threads);
            assert!(
                bits(&case.run(&exec)) == bits(&expected),
                "{} x {threads}: {:?}",
                isa.name(),
                case.params
            );
        }
    }
}

#[test]
fn equals_the_reference() {
    for head_dim in [1, 16, 20, 36, 64, 80, 128, 256] {
        for (heads, kv_heads) in [(1, 1), (4, 2), (5, 1), (8, 2)] {
            for (total, m) in [(1, 1), (5, 5), (64, 1), (65, 2), (130, 70)] {
                for ty in [KvType::F32, KvType::F16, KvType::Int8] {
                    check(&Case::new(params(heads, kv_heads, head_dim), ty, total, m, 2.0), 1e-5);
                }
            }
        }
    }
}

/// More heads in a group than rows in a job.
#[test]
fn large_groups() {
    for ty in [KvType::F32, KvType::F16, KvType::Int8] {
        check(&Case::new(params(130, 1, 4), ty, 70, 3, 2.0), 1e-5);
        check(&Case::new(params(130, 1, 4), ty, 1030, 2, 2.0), 1e-5);
    }
}

#[test]
fn chunks_are_merged_in_order() {
    for (total, m) in [(1024, 1), (1025, 1), (1025, 3), (2100, 1), (3000, 20), (1100, 200)] {
        for window in [None, Some(1), Some(3), Some(64), Some(1000), Some(1500)] {
            let params = AttentionParams { window, ..params(3, 1, 20) };
            check(&Case::new(params, KvType::F16, total, m, 3.0), 1e-5);
            check(&Case::new(params, KvType::Int8, total, m, 3.0), 1e-5);
        }
    }
}

/// Long enough that three threads take all heads of a chunk together.
#[test]
fn heads_that_are_taken_together() {
    for (total, m) in [(4200, 1), (4097, 3)] {
        for ty in [KvType::F32, KvType::F16, KvType::Int8] {
            for window in [None, Some(3500)] {
                let params = AttentionParams { window, ..params(6, 3, 20) };
                check(&Case::new(params, ty, total, m, 3.0), 1e-5);
            }
        }
    }
}

#[test]
fn windows_end_anywhere() {
    for window in [1, 2, 5, 17, 63, 64, 65, 100, 128, 200, 1000] {
        let params = AttentionParams { window: Some(window), ..params(2, 1, 36) };
        for ty in [KvType::F32, KvType::Int8] {
            check(&Case::new(params, ty, 300, 170, 2.0), 1e-5);
            check(&Case::new(params, ty, 257, 1, 2.0), 1e-5);
        }
    }
}

#[test]
fn soft_cap() {
    let params = AttentionParams { soft_cap: Some(5.0), ..params(4, 2, 64) };
    check(&Case::new(params, KvType::F32, 100, 50, 20.0), 1e-5);
    check(&Case::new(params, KvType::F16, 700, 1, 20.0), 1e-5);
    check(&Case::new(params, KvType::Int8, 700, 9, 20.0), 1e-4);
}

#[test]
fn extreme_scores() {
    // Scores far beyond exp's range: one key takes all.
    check(&Case::new(params(2, 1, 20), KvType::F32, 150, 150, 1e4), 2e-3);
    check(&Case::new(params(2, 1, 20), KvType::F32, 1200, 2, 1e4), 2e-3);
    // All scores equal.
    check(&Case::new(params(2, 1, 20), KvType::F32, 150, 150, 0.0), 1e-5);
    // Weights and values so small that their products underflow, to zeros of either sign.
    for tiny in [1e-20, 1e-38, 1e-44] {
        for (total, m) in [(150, 150), (1200, 9)] {
            let mut case = Case::new(params(2, 1, 20), KvType::F32, total, m, 60.0);
            case.v.iter_mut().for_each(|v| *v *= tiny);
            check(&case, 1e-5);
        }
    }
    // Infinite scores give NaN on every ISA alike, and only to queries that see them.
    for ty in [KvType::F32, KvType::Int8] {
        let mut case = Case::new(params(2, 2, 20), ty, 140, 140, 1.0);
        case.k[90 * 40 + 3] = f32::INFINITY;
        case.v[70 * 40 + 23] = f32::NAN;
        let expected = bits(&case.each(|q| q.attend()));
        assert!(expected[..69 * 40].iter().all(|x| *x != f32::NAN.to_bits()));
        assert!(expected[100 * 40..].iter().any(|x| *x == f32::NAN.to_bits()));
        for isa in Isa::available() {
            assert_eq!(bits(&case.run(&Exec::new(isa, 2))), expected, "{}", isa.name());
        }
    }
}

/// Sums of codes at their largest, in heads so long that queries have fewer codes.
#[test]
fn no_sum_of_codes_overflows() {
    for head_dim in [256, 511, 512, 600, 5000] {
        let mut case = Case::new(params(2, 1, head_dim), KvType::Int8, 70, 2, 1.0);
        case.q.fill(-3.0);
        case.k.fill(0.01);
        case.v.fill(5.0);
        check(&case, 1e-5);
    }
}

/// Codes are what the definition says; small magnitudes are zero; what is not finite has a scale of NaN.
#[test]
fn int8_is_the_same_on_every_isa() {
    const D: usize = 37;
    let mut random = Random(21);
    let mut rows: Vec<Vec<f32>> =
        [1.0, 1e30, 1e-29, 1e-31, 0.0].map(|scale| numbers(&mut random, D, scale)).to_vec();
    rows.push((0..D).map(|i| i as f32 - 18.0).collect()); // halves
    rows.push(rows[0].iter().map(|x| x * f32::NAN).collect());
    rows.push(rows[0].iter().enumerate().map(|(i, x)| if i == 5 { f32::INFINITY } else { *x }).collect());
    rows.push(rows[0].iter().enumerate().map(|(i, x)| if i == 36 { f32::NAN } else { *x }).collect());
    for (slot, row) in rows.iter().enumerate() {
        let Stored::Codes(codes, scales) = Stored::codes(row, D) else { panic!("codes") };
        assert_eq!(scales[0].is_nan(), row.iter().any(|x| !x.is_finite()));
        for isa in Isa::available() {
            let mut block = KvBlock::new(KvType::Int8, 2, D);
            let both = [row.clone(), row.clone()].concat();
            block.write(&Exec::new(isa, 1), slot, &both, &both).unwrap();
            let block::Storage::Int8(stored) = block.storage() else { panic!("an int8 block") };
            let head = stored.head(1, D);
            assert_eq!(bits(&[head.key_scales.as_flattened()[slot]]), bits(&scales));
            assert_eq!(bits(&[head.value_scales.as_flattened()[slot]]), bits(&scales));
            if !scales[0].is_nan() {
                let keys = head.keys.as_flattened();
                let values = head.values.as_flattened();
                let keys: Vec<i8> = (0..D).map(|d| keys[d / 2 * 64 + slot][d % 2]).collect();
                let values: Vec<i8> = (0..D).map(|d| values[slot / 2 * 48 + d][slot % 2]).collect();
                assert_eq!((keys, values), (codes.clone(), codes.clone()), "{isa} {row:?}");
            }
        }
    }
}

/// A tile of scores that are all -inf weighs nothing beside a finite one.
#[test]
fn a_tile_of_minus_infinity() {
    let mut case = Case::new(params(1, 1, 2), KvType::F32, 80, 1, 1.0);
    case.q = vec![1.0, 1.0];
    for k in &mut case.k[..128] {
        *k = f32::MIN;
    }
    let expected = case.each(|q| q.attend());
    assert!(expected.iter().all(|x| x.is_finite()));
    for isa in Isa::available() {
        assert_eq!(bits(&case.run(&Exec::new(isa, 1))), bits(&expected), "{}", isa.name());
    }
}

/// Bits of f16 storage are the bits of `half`, whatever converts.
#[test]
fn f16_is_the_same_on_every_isa() {
    let mut random = Random(7);
    let mut numbers: Vec<f32> = (0..=u16::MAX).map(|x| f16::from_bits(x).to_f32()).collect();
    numbers.extend((0..1 << 16).map(|_| f32::from_bits(random.next())));
    numbers.extend([
        65_519.996,
        65_520.0,
        -65_520.0,
        2.0f32.powi(-25),
        1.5 * 2.0f32.powi(-25),
        f32::MIN_POSITIVE,
    ]);
    numbers.truncate(numbers.len() / 256 * 256);
    let stored = |isa: Isa| -> Vec<u16> {
        let exec = Exec::new(isa, 1);
        let mut block = KvBlock::new(KvType::F16, 2, 2);
        let mut all = Vec::new();
        for x in numbers.chunks_exact(256) {
            block.write(&exec, 0, x, x).unwrap();
            let block::Storage::F16(planes) = block.storage() else { panic!("an f16 block") };
            all.extend(planes.head(1, 2).keys.as_flattened().iter().map(|x| x.to_bits()));
        }
        all
    };
    let expected: Vec<u16> = numbers
        .chunks_exact(256)
        .flat_map(|x| [2, 3].map(|at| x.iter().skip(at).step_by(4)))
        .flatten()
        .map(|x| f16::from_f32(*x).to_bits())
        .collect();
    for isa in Isa::available() {
        assert!(stored(isa) == expected, "{}", isa.name());
    }
}

/// A block cleared from a slot on is one that was never written there, byte by byte; and its bytes are all it is.
#[test]
fn cleared_blocks_and_their_bytes() {
    let exec = Exec::new(Isa::best(), 1);
    let mut random = Random(31);
    for ty in [KvType::F32, KvType::F16, KvType::Int8] {
        for head_dim in [1, 16, 37] {
            let (k, v) =
                (numbers(&mut random, 64 * 2 * head_dim, 1.0), numbers(&mut random, 64 * 2 * head_dim, 1.0));
            for slot in [0, 1, 31, 32, 63, 64] {
                let mut block = KvBlock::new(ty, 2, head_dim);
                block.write(&exec, 0, &k, &v).unwrap();
                block.clear(slot);
                let mut other = KvBlock::new(ty, 2, head_dim);
                let written = slot * 2 * head_dim;
                other.write(&exec, 0, &k[..written], &v[..written]).unwrap();
                assert_eq!(block.as_bytes(), other.as_bytes(), "{ty:?} {head_dim} from {slot}");
                assert_eq!(KvBlock::bytes_of(ty, 2, head_dim), block.bytes());
                let mut copy = KvBlock::new(ty, 2, head_dim);
                copy.as_bytes_mut().copy_from_slice(block.as_bytes());
                assert_eq!(copy.as_bytes(), block.as_bytes());
            }
        }
    }
}

/// Blocks before the window may be anything, even of another shape.
#[test]
fn blocks_outside_the_window_are_not_read() {
    let exec = Exec::new(Isa::best(), 1);
    let params = AttentionParams { window: Some(30), ..params(2, 1, 16) };
    let case = Case::new(params, KvType::F32, 200, 2, 1.0);
    let mut blocks = case.blocks(&exec);
    let expected = case.run_on(&exec, &blocks);
    blocks[..2].fill(KvBlock::new(KvType::F16, 0, 0));
    assert_eq!(bits(&case.run_on(&exec, &blocks)), bits(&expected));
}

#[test]
fn wrong_shapes_are_errors() {
    let exec = Exec::new(Isa::best(), 1);
    let good = Case::new(params(4, 2, 16), KvType::F32, 70, 3, 1.0);
    let blocks = good.blocks(&exec);
    let mut scratch = AttentionScratch::new();
    let mut call =
        |params: &AttentionParams, q: &[f32], first: usize, blocks: &[KvBlock], out: &mut [f32]| {
            attention(&exec, params, &mut scratch, q, first, blocks, out).unwrap_err().what
        };
    let mut out = good.q.clone();
    let q = &good.q;
    assert_eq!(call(&good.params, &q[1..], 67, &blocks, &mut out), "q");
    assert_eq!(call(&good.params, q, 67, &blocks, &mut out[1..]), "out");
    assert_eq!(call(&good.params, q, 126, &blocks, &mut out), "blocks");
    assert_eq!(call(&good.params, q, usize::MAX, &blocks, &mut out), "blocks");
    assert_eq!(call(&params(4, 3, 16), q, 67, &blocks, &mut out), "the query heads");
    assert_eq!(call(&params(4, 0, 16), q, 67, &blocks, &mut out), "the query heads");
    assert_eq!(call(&params(4, 4, 16), q, 67, &blocks, &mut out), "a block's kv heads");
    assert_eq!(call(&params(8, 2, 8), q, 67, &blocks, &mut out), "a block's keys");
    let window = AttentionParams { window: Some(0), ..good.params };
    assert_eq!(call(&window, q, 67, &blocks, &mut out), "the window");
    let mut mixed = blocks.clone();
    mixed[1] = KvBlock::new(KvType::Int8, 2, 16);
    assert_eq!(call(&good.params, q, 67, &mixed, &mut out), "bits: a block's number");
    let mut block = KvBlock::new(KvType::F16, 2, 4);
    assert_eq!(block.write(&exec, 0, &[0.0; 9], &[0.0; 9]).unwrap_err().what, "k");
    assert_eq!(block.write(&exec, 0, &[0.0; 8], &[0.0; 16]).unwrap_err().what, "v");
    assert_eq!(block.write(&exec, 63, &[0.0; 16], &[0.0; 16]).unwrap_err().what, "the block");
}

#[test]
fn plain_slices() {
    let mut random = Random(3);
    let exec = Exec::new(Isa::best(), 2);
    let shape = AttentionShape { kv_tokens: 150, ..AttentionShape::causal(6, 2, 70, 36) };
    let q = numbers(&mut random, 6 * 70 * 36, 2.0);
    let (k, v) = (numbers(&mut random, 2 * 150 * 36, 1.0), numbers(&mut random, 2 * 150 * 36, 1.0));
    let plain = params(6, 2, 36);
    for causal in [true, false] {
        for soft_cap in [None, Some(1.5)] {
            let shape = AttentionShape { causal, ..shape };
            let out = match soft_cap {
                None => flash_attention_forward(&exec, &q, &k, &v, &shape),
                Some(cap) => flash_attention_forward_capped(&exec, &q, &k, &v, &shape, cap),
            };
            let params = AttentionParams { soft_cap, ..plain };
            for (i, out) in out.unwrap().chunks_exact(36).enumerate() {
                let (head, token) = (i / 70, i % 70);
                let plane = head / 3 * 150 * 36..(head / 3 + 1) * 150 * 36;
                let stored = |x: &[f32]| Stored::Floats(x[plane.clone()].to_vec());
                let query = Query {
                    params: &params,
                    q: &q[i * 36..][..36],
                    visible: (0, if causal { 80 + token + 1 } else { 150 }),
                    keys: &stored(&k),
                    values: &stored(&v),
                };
                assert_eq!(bits(out), bits(&query.attend()));
            }
        }
    }
    let short = AttentionShape { kv_tokens: 69, ..AttentionShape::causal(6, 2, 70, 36) };
    let (k, v) = (&k[..2 * 69 * 36], &v[..2 * 69 * 36]);
    assert_eq!(flash_attention_forward(&exec, &q, k, v, &short).unwrap_err().what, "the keys");
}

/// Scratch that served other shapes changes nothing.
#[test]
fn scratch_is_reused() {
    let exec = Exec::new(Isa::best(), 3);
    let mut scratch = AttentionScratch::new();
    for (heads, head_dim, total, m) in
        [(8, 64, 2200, 1), (2, 20, 100, 100), (8, 64, 2200, 1), (3, 128, 70, 70)]
    {
        let ty = if heads == 3 { KvType::Int8 } else { KvType::F16 };
        let case = Case::new(params(heads, 1, head_dim), ty, total, m, 2.0);
        let blocks = case.blocks(&exec);
        let mut out = vec![0.0; case.q.len()];
        attention(&exec, &case.params, &mut scratch, &case.q, total - m, &blocks, &mut out).unwrap();
        assert_eq!(bits(&out), bits(&case.run(&exec)));
        let bytes = scratch.bytes();
        attention(&exec, &case.params, &mut scratch, &case.q, total - m, &blocks, &mut out).unwrap();
        assert_eq!(scratch.bytes(), bytes, "a repeated call allocates nothing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A query's bits do not depend on the queries beside it, nor on the threads, nor on the ISA.
    #[test]
    fn any_split_has_the_same_bits(
        kv_heads in 1usize..3,
        group in 1usize..6,
        head_dim in 1usize..70,
        before in 0usize..1200,
        pieces in prop::collection::vec(1usize..60, 1..5),
        window in prop::option::of(1usize..1300),
        soft_cap in prop::option::of(1f32..40.0),
        ty in prop::sample::select(vec![KvType::F32, KvType::F16, KvType::Int8]),
        isa in prop::sample::select(Isa::available()),
        threads in 1usize..5,
    ) {
        let m = pieces.iter().sum::<usize>();
        let params = AttentionParams { soft_cap, window, ..params(kv_heads * group, kv_heads, head_dim) };
        let case = Case::new(params, ty, before + m, m, 3.0);
        let whole = case.run(&Exec::new(Isa::best(), 1));

        let exec = Exec::new(isa, threads);
        let blocks = case.blocks(&exec);
        let mut scratch = AttentionScratch::new();
        let mut done = 0;
        let token = params.heads * head_dim;
        let mut out = vec![0.0; case.q.len()];
        for piece in pieces {
            let range = done * token..(done + piece) * token;
            let q = &case.q[range.clone()];
            attention(&exec, &params, &mut scratch, q, before + done, &blocks, &mut out[range]).unwrap();
            done += piece;
        }
        prop_assert!(bits(&out) == bits(&whole));
    }
}
