//! Smooth operations against finite differences of their definitions in f64.
use chalot_simd::Isa;
use chalot_tensor::Exec;
use chalot_train::ops::attention::{self, attention_backward};
use chalot_train::ops::cross_entropy::{IGNORED, RowLoss, cross_entropy, toward_teacher};
use chalot_train::ops::gated::relu2_gated_backward;
use chalot_train::ops::norm::rms_norm_backward;
use chalot_train::random::Random;

fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut random = Random::new(&[seed]);
    (0..len).map(|_| (random.bits() >> 40) as f32 / (1u32 << 23) as f32 - 1.0).collect()
}

/// Compares `found` with the central differences of `f` at `x`: the sum over outputs of `f` times `d`, all in f64.
fn check(what: &str, x: &[f32], found: &[f32], f: &dyn Fn(&[f64]) -> f64) {
    let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    for i in 0..x.len() {
        let at = |step: f64| {
            let mut moved = x.clone();
            moved[i] += step;
            f(&moved)
        };
        let step = 1e-5;
        let expected = (at(step) - at(-step)) / (2.0 * step);
        let error = (expected - f64::from(found[i])).abs();
        assert!(error < 2e-5 * (1.0 + expected.abs()), "{what} {i}: {} instead of {expected}", found[i]);
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn execs() -> impl Iterator<Item = Exec> {
    Isa::available().into_iter().flat_map(|isa| [1, 2].map(|threads| Exec::new(isa, threads)))
}

#[test]
fn rms_norm() {
    let (m, n, eps) = (70, 19, 1e-5f32);
    let (x, w, dy) = (numbers(1, m * n), numbers(2, n), numbers(3, m * n));
    let loss = |x: &[f64], w: &[f64]| -> f64 {
        x.chunks(n)
            .zip(dy.chunks(n))
            .map(|(x, dy)| {
                let r = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / n as f64 + f64::from(eps)).sqrt();
                (0..n).map(|i| x[i] * r * w[i] * f64::from(dy[i])).sum::<f64>()
            })
            .sum()
    };
    for exec in execs() {
        let (mut dx, mut dw) = (vec![1.0; m * n], vec![0.0; n]);
        rms_norm_backward(&exec, &x, &w, eps, &dy, true, &mut dx, &mut dw, &mut Vec::new());
        dx.iter_mut().for_each(|d| *d -= 1.0);
        check("dx", &x[..2 * n], &dx, &|moved| {
            let mut all = wide(&x);
            all[..2 * n].copy_from_slice(moved);
            loss(&all, &wide(&w))
        });
        check("dw", &w, &dw, &|w| loss(&wide(&x), w));
    }
}

#[test]
fn gated() {
    let (m, n) = (3, 21);
    let (gate, up, du) = (numbers(4, m * n), numbers(5, m * n), numbers(6, m * n));
    let loss = |gate: &[f64], up: &[f64]| -> f64 {
        (0..m * n).map(|i| gate[i].max(0.0).powi(2) * up[i] * f64::from(du[i])).sum()
    };
    for exec in execs() {
        let mut d = vec![0.0; 2 * m * n];
        relu2_gated_backward(&exec, &gate, &up, &du, n, &mut d);
        let half =
            |k: usize| -> Vec<f32> { d.chunks(2 * n).flat_map(|row| row[k * n..][..n].to_vec()).collect() };
        check("gate", &gate, &half(0), &|gate| loss(gate, &wide(&up)));
        check("up", &up, &half(1), &|up| loss(&wide(&gate), up));
    }
}

#[test]
fn loss_of_logits() {
    let (m, vocab, zeta) = (2, 37, 0.01f32);
    let logits: Vec<f32> = numbers(7, m * vocab).iter().map(|x| 4.0 * x).collect();
    let targets = [5u32, 36];
    let lse = |z: &[f64]| z.iter().map(|z| z.exp()).sum::<f64>().ln();
    for exec in execs() {
        let (mut d, mut losses) = (logits.clone(), [RowLoss::default(); 2]);
        cross_entropy(&exec, &mut d, &targets, zeta, Some(0.5), &mut losses);
        check("logits", &logits, &d, &|z| {
            let rows = z.chunks(vocab).zip(targets);
            rows.map(|(z, t)| 0.5 * (lse(z) - z[t as usize] + f64::from(zeta) * lse(z).powi(2))).sum()
        });
        let expected = lse(&wide(&logits[..vocab])) - f64::from(logits[5]);
        assert!((losses[0].loss - expected).abs() < 1e-5);
    }
}

#[test]
fn loss_toward_a_teacher() {
    let (m, vocab, share) = (3, 37, 0.7f32);
    let logits: Vec<f32> = numbers(8, m * vocab).iter().map(|x| 4.0 * x).collect();
    let teacher: Vec<f32> = numbers(9, m * vocab).iter().map(|x| 3.0 * x).collect();
    let targets = [5u32, IGNORED, 36];
    let softmax = |z: &[f64]| -> Vec<f64> {
        let sum: f64 = z.iter().map(|z| z.exp()).sum();
        z.iter().map(|z| z.exp() / sum).collect()
    };
    let right = wide(&teacher);
    for exec in execs() {
        let (mut d, mut r, mut losses) = (logits.clone(), teacher.clone(), [RowLoss::default(); 3]);
        cross_entropy(&exec, &mut d, &targets, 0.0, Some(0.5), &mut losses);
        toward_teacher(&exec, &mut d, &mut r, &targets, 0.5 * share);
        check("logits", &logits, &d, &|z| {
            let rows = z.chunks(vocab).zip(right.chunks(vocab)).zip(targets);
            let loss = |((z, r), t): ((&[f64], &[f64]), u32)| {
                let p = softmax(z);
                let taught: f64 = p.iter().zip(softmax(r)).map(|(p, r)| -r * p.ln()).sum();
                let share = f64::from(share);
                0.5 * (share * taught - (1.0 - share) * p[t as usize].ln())
            };
            rows.filter(|(_, t)| *t != IGNORED).map(loss).sum()
        });
    }
}

#[test]
fn attention_of_two_tiles() {
    let (tokens, heads, kv_heads, head_dim, scale) = (70, 4, 2, 6, 0.4f32);
    let group = heads / kv_heads;
    let (q, k, v) = (
        numbers(8, tokens * heads * head_dim),
        numbers(9, tokens * kv_heads * head_dim),
        numbers(10, tokens * kv_heads * head_dim),
    );
    let d_out = numbers(11, q.len());
    let forward = |q: &[f64], k: &[f64], v: &[f64]| -> Vec<f64> {
        let mut out = vec![0.0; q.len()];
        for (t, h) in (0..tokens).flat_map(|t| (0..heads).map(move |h| (t, h))) {
            let row = |x: &[f64], token: usize| -> Vec<f64> {
                x[(token * kv_heads + h / group) * head_dim..][..head_dim].to_vec()
            };
            let q = &q[(t * heads + h) * head_dim..][..head_dim];
            let scores: Vec<f64> = (0..=t)
                .map(|j| row(k, j).iter().zip(q).map(|(k, q)| k * q).sum::<f64>() * f64::from(scale))
                .map(f64::exp)
                .collect();
            let sum: f64 = scores.iter().sum();
            for (j, p) in scores.iter().enumerate() {
                for (d, v) in row(v, j).iter().enumerate() {
                    out[(t * heads + h) * head_dim + d] += p / sum * v;
                }
            }
        }
        out
    };
    let loss = |q: &[f64], k: &[f64], v: &[f64]| -> f64 {
        forward(q, k, v).iter().zip(&d_out).map(|(o, d)| o * f64::from(*d)).sum()
    };
    let out: Vec<f32> = forward(&wide(&q), &wide(&k), &wide(&v)).iter().map(|x| *x as f32).collect();
    let shape = attention::Shape { heads, kv_heads, head_dim, scale };
    let rows = attention::Rows { q: &q, k: &k, v: &v, out: &out, d_out: &d_out };
    let exec = Exec::new(Isa::best(), 1);
    let per_head = tokens * head_dim;
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    for kv_head in 0..kv_heads {
        let mut d = vec![0.0; tokens * shape.gradient_width()];
        attention_backward(&exec, shape, rows, kv_head, &mut attention::Scratch::default(), &mut d).unwrap();
        for t in 0..tokens {
            let part = |slot: usize| &d[slot * per_head + t * head_dim..][..head_dim];
            for slot in 0..group {
                dq[(t * heads + kv_head * group + slot) * head_dim..][..head_dim].copy_from_slice(part(slot));
            }
            dk[(t * kv_heads + kv_head) * head_dim..][..head_dim].copy_from_slice(part(group));
            dv[(t * kv_heads + kv_head) * head_dim..][..head_dim].copy_from_slice(part(group + 1));
        }
    }
    // A few positions of the first and of the last tokens: each difference is a whole forward pass.
    for at in [0, 7, q.len() - 20, q.len() - 1] {
        check("q", &q[at..=at], &dq[at..], &|moved| {
            let mut q = wide(&q);
            q[at] = moved[0];
            loss(&q, &wide(&k), &wide(&v))
        });
    }
    for at in [0, 5, 400, k.len() - 1] {
        check("k", &k[at..=at], &dk[at..], &|moved| {
            let mut k = wide(&k);
            k[at] = moved[0];
            loss(&wide(&q), &k, &wide(&v))
        });
        check("v", &v[at..=at], &dv[at..], &|moved| {
            let mut v = wide(&v);
            v[at] = moved[0];
            loss(&wide(&q), &wide(&k), &v)
        });
    }
}
