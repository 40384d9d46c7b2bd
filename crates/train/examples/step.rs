//! Times training steps on random or given bytes: `step DEPTH VOCAB ROWS LENGTH STEPS THREADS [EXPERTS] [--bytes FILE]`.
use std::time::Instant;

use chalot_simd::Isa;
use chalot_tensor::Exec;
use chalot_train::network::{Architecture, Batch, ExpertsArchitecture, Gradients, Network, StepOptions};
use chalot_train::optim::{Optimizer, OptimizerOptions, Schedule};
use chalot_train::random::Random;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| args.get(i).and_then(|x| x.parse().ok()).unwrap_or(default);
    let (depth, vocab, rows, length, steps, threads, experts) = (
        number(0, 8),
        number(1, 4096),
        number(2, 8),
        number(3, 256),
        number(4, 5),
        number(5, 2),
        number(6, 0),
    );
    let bytes = args.iter().position(|x| x == "--bytes").map(|i| std::fs::read(&args[i + 1])).transpose()?;
    let mut shape = Architecture::new(depth);
    shape.context = Some(length);
    shape.ternary = !args.iter().any(|x| x == "--float");
    if experts > 0 {
        shape.experts = Some(ExpertsArchitecture {
            count: experts,
            top_k: 2,
            intermediate: None,
            shared: true,
            dense_layers: 0,
        });
    }
    let exec = Exec::new(Isa::best(), threads);
    let mut network = Network::new(&shape, vocab, exec.clone(), 1)?;
    let total: usize = network.parameters().iter().map(|p| p.value.len()).sum();
    let json = args.iter().any(|x| x == "--json");
    let mut rates = Vec::new();
    if !json {
        println!("{total} parameters, {:?}", network.config());
    }
    let mut options = OptimizerOptions::default();
    if args.iter().any(|x| x == "--adamw") {
        options.matrices = chalot_train::optim::Method::AdamW;
    }
    if let Some(i) = args.iter().position(|x| x == "--rate") {
        options.muon_rate = args[i + 1].parse()?;
        options.adamw_rate = args[i + 1].parse()?;
    }
    if let Some(i) = args.iter().position(|x| x == "--other") {
        options.other_rate = args[i + 1].parse()?;
    }
    let mut optimizer = Optimizer::new(options, network.parameters());
    let mut gradients = Gradients::new(network.parameters());
    let schedule = Schedule { warm_up: 20, ..Schedule::default() };
    let mut random = Random::new(&[7]);
    let mut mean = 0.0;
    for step in 0..steps {
        let mut inputs = Vec::new();
        let mut targets = Vec::new();
        for _ in 0..rows {
            match &bytes {
                Some(bytes) => {
                    let at = random.below(bytes.len() - length - 1);
                    inputs.extend(bytes[at..at + length].iter().map(|&b| u32::from(b)));
                    targets.extend(bytes[at + 1..at + length + 1].iter().map(|&b| u32::from(b)));
                }
                None => {
                    inputs.extend((0..length).map(|_| random.below(vocab) as u32));
                    targets.extend((0..length).map(|_| random.below(vocab) as u32));
                }
            }
        }
        let started = Instant::now();
        gradients.clear(&exec);
        let options = StepOptions {
            weight: 1.0 / (rows * length) as f32,
            exit_weight: if args.iter().any(|x| x == "--exit") { 0.3 } else { 0.0 },
            exit_share: 0.5,
            router_z_loss: 1e-4,
            balance_loss: 1e-3,
            z_loss: 1e-5,
            seed: step as u64,
            ..StepOptions::default()
        };
        let batch = Batch { length, inputs: &inputs, targets: &targets };
        let losses = network.forward_backward(&batch, &options, &mut gradients)?;
        let passes = started.elapsed();
        let (rate, decay) =
            (schedule.rate(step as u64, steps as u64), schedule.weight_decay(step as u64, steps as u64));
        let norm = optimizer.step(&exec, network.parameters_mut(), &gradients, rate, decay)?;
        network.balance(&losses.load, 1e-3);
        let all = started.elapsed();
        let loss = losses.main / losses.tokens as f64;
        mean = if step == 0 { loss } else { 0.95 * mean + 0.05 * loss };
        if step > 0 || steps == 1 {
            rates.push((rows * length) as f64 / all.as_secs_f64());
        }
        if json {
            continue;
        }
        if step < 5 || step % 20 == 0 || step + 1 == steps {
            println!(
                "step {step}: loss {loss:.4} (mean {mean:.4}) norm {norm:.3} exit {:.3} balance {:.3}, passes {:.0} ms, optimizer {:.0} ms, {:.0} tokens/s",
                losses.exit / losses.exit_tokens.max(1) as f64,
                losses.balance / losses.tokens as f64 / depth as f64,
                passes.as_secs_f64() * 1e3,
                (all - passes).as_secs_f64() * 1e3,
                (rows * length) as f64 / all.as_secs_f64()
            );
        }
    }
    rates.sort_by(f64::total_cmp);
    if json {
        println!("{{\"tokens_per_second\": {:.1}, \"loss\": {mean:.4}}}", rates[rates.len() / 2]);
    }
    Ok(())
}
