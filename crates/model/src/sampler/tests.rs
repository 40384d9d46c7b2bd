use super::*;

fn sampler(edit: impl FnOnce(&mut SamplingParams)) -> Sampler {
    let mut params = SamplingParams { temperature: 1.0, ..SamplingParams::greedy() };
    edit(&mut params);
    Sampler::new(params).unwrap()
}

fn kept(sampler: &mut Sampler, logits: &[f32]) -> Vec<u32> {
    let mut ids: Vec<u32> = sampler.distribution(logits, &[]).candidates.iter().map(|c| c.id).collect();
    ids.sort_unstable();
    ids
}

/// Logits of given probabilities.
fn logits(probabilities: &[f64]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln() as f32).collect()
}

#[test]
fn greedy_takes_the_lowest_of_the_largest_and_never_nan() {
    assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
    assert_eq!(argmax(&[f32::NAN, -5.0, f32::NAN]), 1);
    assert_eq!(argmax(&[f32::NAN, f32::NAN]), 0);
    assert_eq!(argmax(&[f32::NEG_INFINITY, f32::INFINITY]), 1);
    assert_eq!(argmax(&[-0.0, 0.0]), 0, "equal zeros: the lowest");
    assert_eq!(argmax(&[]), 0);
}

#[test]
fn greedy_honours_the_penalty_and_draws_nothing() {
    let mut greedy =
        Sampler::new(SamplingParams { repeat_penalty: 2.0, ..SamplingParams::greedy() }).unwrap();
    let before = greedy.rng.clone();
    assert_eq!(greedy.sample(&[3.0, 2.0, 1.0], &[]), 0);
    assert_eq!(greedy.sample(&[3.0, 2.0, 1.0], &[0]), 1);
    assert_eq!(greedy.sample(&[f32::NAN, -2.0, -3.0], &[1]), 2, "a negative logit is multiplied");
    assert_eq!(greedy.rng, before);
}

#[test]
fn the_penalty_counts_a_token_once_and_forgets() {
    let mut s = sampler(|p| (p.repeat_penalty, p.repeat_last_n) = (2.0, 3));
    let d = s.distribution(&[4.0, 4.0, 4.0], &[2, 1, 1, 1, 0, 999]);
    let found: Vec<f32> = d.candidates.iter().map(|c| c.logit).collect();
    assert_eq!(found, [2.0, 2.0, 4.0], "2 lies four back, 999 is no token");
}

#[test]
fn top_k_breaks_ties_by_id() {
    let mut s = sampler(|p| p.top_k = 2);
    assert_eq!(kept(&mut s, &[1.0, 2.0, 1.0, 1.0]), [0, 1]);
    assert_eq!(kept(&mut sampler(|p| p.top_k = 9), &[1.0, 2.0]), [0, 1]);
    assert_eq!(kept(&mut sampler(|p| p.top_k = 1), &[-0.0, 0.0, -1.0]), [0], "zeros are equal");
}

#[test]
fn top_k_in_one_pass_is_that_of_a_sort() {
    let mut rng = Rng::new(11);
    for k in [1, 2, 40, 300, 999] {
        // Few distinct values, so that many tie; falling and rising stretches, so that the floor moves.
        let l: Vec<f32> =
            (0..1000).map(|i| (rng.next_u64() % 50) as f32 + (i % 300) as f32 / 10.0 - 20.0).collect();
        let mut order: Vec<u32> = (0..1000).collect();
        order.sort_by(|&a, &b| l[b as usize].total_cmp(&l[a as usize]).then(a.cmp(&b)));
        let mut s = sampler(|p| p.top_k = k);
        let found: Vec<u32> = s.distribution(&l, &[]).candidates.iter().map(|c| c.id).collect();
        assert_eq!(found, order[..k]);
    }
}

#[test]
fn top_p_keeps_the_token_that_crosses() {
    let l = logits(&[0.1, 0.5, 0.15, 0.25]);
    assert_eq!(kept(&mut sampler(|p| p.top_p = 0.45), &l), [1]);
    assert_eq!(kept(&mut sampler(|p| p.top_p = 0.6), &l), [1, 3]);
    assert_eq!(kept(&mut sampler(|p| p.top_p = 0.8), &l), [1, 2, 3]);
    assert_eq!(kept(&mut sampler(|p| p.top_p = 1e-9), &l), [1]);
    // Top-k first: of the two left, 0.5 is two thirds.
    assert_eq!(kept(&mut sampler(|p| (p.top_k, p.top_p) = (2, 0.66)), &l), [1]);
}

#[test]
fn a_nucleus_longer_than_one_sorting_is_the_same() {
    // 1,000 nearly equal tokens: the nucleus takes several rounds of partial sorting.
    let mut rng = Rng::new(5);
    let l: Vec<f32> = (0..1000).map(|_| rng.next_f64() as f32 * 0.1).collect();
    let found = kept(&mut sampler(|p| p.top_p = 0.7), &l);
    let mut order: Vec<usize> = (0..1000).collect();
    order.sort_by(|&a, &b| l[b].total_cmp(&l[a]).then(a.cmp(&b)));
    let total: f64 = l.iter().map(|&x| f64::from(x).exp()).sum();
    let mut sum = 0.0;
    let n = order
        .iter()
        .position(|&i| {
            sum += f64::from(l[i]).exp();
            sum >= 0.7 * total
        })
        .unwrap()
        + 1;
    let mut expected: Vec<u32> = order[..n].iter().map(|&i| i as u32).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn min_p_is_relative_to_the_likeliest() {
    let l = logits(&[0.5, 0.3, 0.15, 0.05]);
    assert_eq!(kept(&mut sampler(|p| p.min_p = 0.5), &l), [0, 1]);
    assert_eq!(kept(&mut sampler(|p| p.min_p = 0.05), &l), [0, 1, 2, 3]);
    assert_eq!(kept(&mut sampler(|p| p.min_p = 1.0), &l), [0]);
    // The filters see the model's own probabilities, whatever the temperature.
    assert_eq!(kept(&mut sampler(|p| (p.min_p, p.temperature) = (0.5, 100.0)), &l), [0, 1]);
}

/// The share of each token in `n` draws, as a chi-square against `probabilities`.
fn chi_square(s: &mut Sampler, logits: &[f32], probabilities: &[f64], n: usize) -> f64 {
    let mut counts = vec![0u32; logits.len()];
    for _ in 0..n {
        counts[s.sample(logits, &[]) as usize] += 1;
    }
    let mut chi = 0.0;
    for (&count, &p) in counts.iter().zip(probabilities) {
        let expected = p * n as f64;
        if p == 0.0 {
            assert_eq!(count, 0);
        } else {
            chi += (f64::from(count) - expected).powi(2) / expected;
        }
    }
    chi
}

#[test]
fn draws_follow_the_distribution() {
    let p = [0.05, 0.4, 0.3, 0.2, 0.05];
    // Four degrees of freedom: 18.5 is the 0.1% point. The same draws must fail for a wrong temperature.
    assert!(chi_square(&mut sampler(|_| {}), &logits(&p), &p, 20_000) < 18.5);
    assert!(chi_square(&mut sampler(|s| s.temperature = 1.3), &logits(&p), &p, 20_000) > 18.5);
    let squared: Vec<f64> = p.iter().map(|x| x * x / p.iter().map(|y| y * y).sum::<f64>()).collect();
    assert!(chi_square(&mut sampler(|s| s.temperature = 0.5), &logits(&p), &squared, 20_000) < 18.5);
    let cut = [0.0, 4.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0, 0.0];
    assert!(chi_square(&mut sampler(|s| s.top_p = 0.85), &logits(&p), &cut, 20_000) < 13.8);
}

#[test]
fn a_seed_decides_and_another_differs() {
    let l = logits(&[0.25; 4]);
    let draw = |seed| {
        let mut s = sampler(|p| p.seed = seed);
        (0..32).map(|_| s.sample(&l, &[])).collect::<Vec<_>>()
    };
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3), draw(4));
}

#[test]
fn broken_logits_give_a_token_of_the_vocabulary() {
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 0.0];
    for a in odd {
        for b in odd {
            for edit in [0, 1, 2, 3] {
                let mut s = sampler(|p| match edit {
                    0 => p.top_k = 1,
                    1 => p.top_p = 0.5,
                    2 => p.min_p = 0.5,
                    _ => p.temperature = 1e-30,
                });
                assert!(s.sample(&[a, b, f32::NAN], &[0, 1]) < 3);
            }
        }
    }
    assert_eq!(sampler(|_| {}).sample(&[], &[]), 0);
    // NaN is never drawn beside a number.
    let mut s = sampler(|_| {});
    assert!((0..100).all(|_| s.sample(&[f32::NAN, 1.0], &[]) == 1));
}

#[test]
fn parameters_out_of_range_are_named() {
    let bad = |edit: &dyn Fn(&mut SamplingParams)| {
        let mut params = SamplingParams::default();
        edit(&mut params);
        Sampler::new(params).unwrap_err().to_string()
    };
    assert!(bad(&|p| p.temperature = -1.0).starts_with("temperature is -1, but must be"));
    assert!(bad(&|p| p.temperature = f32::NAN).starts_with("temperature is NaN"));
    assert!(bad(&|p| p.top_p = 0.0).starts_with("top_p is 0"));
    assert!(bad(&|p| p.top_p = f32::NAN).starts_with("top_p"));
    assert!(bad(&|p| p.min_p = 1.5).starts_with("min_p is 1.5"));
    assert!(bad(&|p| p.repeat_penalty = 0.0).starts_with("repeat_penalty is 0"));
    assert!(
        Sampler::new(SamplingParams::default()).is_ok() && Sampler::new(SamplingParams::greedy()).is_ok()
    );
}
