mod killed;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::*;
use crate::checkpoint::{Checkpoint, CheckpointError, Tensor, read_tensors};
use crate::data::Prepared;
use crate::processes::Alone;
use crate::recipe::Recipe;

/// The smallest thing that learns: each token predicts the next by a row of logits; momentum, so that there is a state.
struct Pairs {
    vocab: usize,
    logits: Vec<f32>,
    momentum: Vec<f32>,
    rate: f32,
}

impl Pairs {
    fn new(vocab: usize, rate: f32) -> Pairs {
        Pairs { vocab, logits: vec![0.0; vocab * vocab], momentum: vec![0.0; vocab * vocab], rate }
    }
}

impl Learner for Pairs {
    type Gradients = Vec<f32>;

    fn gradients(&self) -> Vec<f32> {
        vec![0.0; self.logits.len()]
    }

    fn slices(gradients: &mut Vec<f32>) -> Vec<&mut [f32]> {
        vec![gradients]
    }

    fn add(sum: &mut Vec<f32>, gradients: &Vec<f32>) {
        crate::processes::add(sum, gradients);
    }

    fn compute(&mut self, part: &Part, gradients: &mut Vec<f32>) -> Result<Measured, RunError> {
        gradients.fill(0.0);
        let mut measured = self.measure(part.ids, part.width)?;
        let scale = 1.0 / (measured.tokens as f32 * part.parts as f32);
        for row in part.ids.chunks_exact(part.width) {
            for pair in row.windows(2) {
                let from = pair[0] as usize * self.vocab;
                let logits = &self.logits[from..from + self.vocab];
                let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
                for (id, logit) in logits.iter().enumerate() {
                    let target = if id == pair[1] as usize { 1.0 } else { 0.0 };
                    gradients[from + id] += (logit.exp() / sum - target) * scale;
                }
            }
        }
        measured.expert_tokens = vec![1.0, 3.0];
        Ok(measured)
    }

    fn update(&mut self, _: u64, gradients: &mut Vec<f32>, _: &Measured) -> Result<Updated, RunError> {
        let norm = gradients.iter().map(|g| f64::from(g * g)).sum::<f64>().sqrt();
        for ((logit, momentum), gradient) in self.logits.iter_mut().zip(&mut self.momentum).zip(gradients) {
            *momentum = 0.9 * *momentum + *gradient;
            *logit -= self.rate * *momentum;
        }
        Ok(Updated { learning_rate: f64::from(self.rate), gradient_norm: norm })
    }

    fn measure(&mut self, ids: &[u32], width: usize) -> Result<Measured, RunError> {
        let mut measured = Measured::default();
        for pair in ids.chunks_exact(width).flat_map(|row| row.windows(2)) {
            let logits = &self.logits[pair[0] as usize * self.vocab..][..self.vocab];
            let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
            measured.loss += f64::from(sum.ln() - logits[pair[1] as usize]);
            measured.tokens += 1.0;
        }
        Ok(measured)
    }

    fn parameters(&self) -> (u64, u64) {
        (self.logits.len() as u64, self.vocab as u64)
    }

    fn experts(&self) -> usize {
        2
    }

    fn state(&self) -> Vec<File<'_>> {
        let tensor = |data| Tensor { name: "t".into(), shape: vec![self.vocab, self.vocab], data };
        vec![
            ("weights.safetensors", vec![tensor((&self.logits).into())]),
            ("optimizer.safetensors", vec![tensor((&self.momentum).into())]),
        ]
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.logits = read_tensors(checkpoint, "weights.safetensors")?.swap_remove(0).data.into_owned();
        self.momentum = read_tensors(checkpoint, "optimizer.safetensors")?.swap_remove(0).data.into_owned();
        Ok(())
    }

    fn export(&self, file: &Path) -> Result<(), RunError> {
        let bytes: Vec<u8> = self.logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
        fs::write(file, bytes).map_err(|error| RunError::model("the file", error))
    }

    fn publish(&self, folder: &Path, tokenizer_json: &str, card: &str) -> Result<(), RunError> {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("tokenizer.json"), tokenizer_json).unwrap();
        fs::write(folder.join("README.md"), card).unwrap();
        self.export(&folder.join("model.safetensors"))
    }
}

fn recipe() -> Recipe {
    let text = "name = 'Test'\n[data]\nheld_out = { every = 5 }\n[[data.texts]]\npath = 'stories.txt'\n\
         [tokenizer]\nsize = 300\n[model]\ndepth = 1\n[train]\nsteps = 40\nrows = 8\nmicro_rows = 2\ncontext = 24\n\
         [evaluate]\nevery = 20\ntokens = 480\n[checkpoint]\nevery = 8\n";
    Recipe::parse("test.toml", text).unwrap()
}

fn prepared(folder: &Path) -> Prepared {
    fs::write(folder.join("stories.txt"), crate::data::tests::stories(20)).unwrap();
    let mut watch = |_| ControlFlow::Continue(());
    Prepared::prepare(&recipe(), folder, folder, &folder.join("data"), 2, &|_| Err("none".into()), &mut watch)
        .unwrap()
}

fn train(
    folder: &Path,
    prepared: &Prepared,
    rate: f32,
    resume: bool,
    observer: &mut dyn Observe,
) -> Result<Outcome, RunError> {
    let recipe = recipe();
    let from = match resume {
        true => checkpoints(folder, &recipe).newest()?,
        false => None,
    };
    let mut learner = Pairs::new(prepared.tokenizer.vocab_size(), rate);
    let training = Training {
        recipe: &recipe,
        folder,
        prepared,
        learner: &mut learner,
        processes: &Alone,
        sampler: &|file| Ok(format!("{} bytes", fs::metadata(file).unwrap().len())),
    };
    training.run(from.as_ref(), observer)
}

struct Hears<F>(F);

impl<F: FnMut(Event) -> ControlFlow<()> + Send> Observe for Hears<F> {
    fn preparing(&mut self, _: crate::data::Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn hear(&mut self, event: Event) -> ControlFlow<()> {
        (self.0)(event)
    }
}

fn go_on() -> Hears<fn(Event) -> ControlFlow<()>> {
    Hears(|_| ControlFlow::Continue(()))
}

#[test]
fn a_run_learns_and_leaves_what_it_should() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = prepared(folder.path());
    let outcome = train(folder.path(), &prepared, 2.0, false, &mut go_on()).unwrap();
    let Outcome::Finished { held_out } = outcome else { panic!("{outcome:?}") };
    let records = crate::log::read(folder.path()).unwrap();
    let steps: Vec<_> = records
        .iter()
        .filter_map(|r| if let crate::log::Record::Step(s) = r { Some(s) } else { None })
        .collect();
    assert_eq!((steps.len(), steps[39].tokens), (40, 40 * 8 * 24));
    assert!(
        (steps[0].loss - 300f64.ln()).abs() < 1e-3 && steps[39].loss < steps[0].loss - 1.0,
        "{:?}",
        steps[39]
    );
    assert_eq!(steps[0].experts, Some(crate::log::ExpertLoad { most: 1.5, least: 0.5 }));
    assert!(steps[39].bits_per_byte > 0.1 && steps[39].exit_loss.is_none());
    assert_eq!((held_out.step, held_out.sample.as_deref()), (40, Some("360000 bytes")));
    assert_eq!(records.iter().filter(|r| matches!(r, crate::log::Record::HeldOut(_))).count(), 2);
    let kept: Vec<_> =
        checkpoints(folder.path(), &recipe()).list().unwrap().into_iter().map(|c| c.0).collect();
    assert_eq!(kept, [40, 32]);
}

#[test]
fn a_run_that_is_stopped_anywhere_ends_with_the_same_bits() {
    let whole = tempfile::tempdir().unwrap();
    let texts = prepared(whole.path());
    train(whole.path(), &texts, 2.0, false, &mut go_on()).unwrap();
    let model = fs::read(model_file(whole.path())).unwrap();
    let log = |folder: &Path| {
        let records = crate::log::read(folder).unwrap();
        let values = records.iter().filter_map(|record| match record {
            crate::log::Record::Step(step) => Some((step.step, step.loss, step.tokens)),
            crate::log::Record::HeldOut(held_out) => Some((held_out.step, held_out.bits_per_byte, 0)),
            crate::log::Record::Start(_) => None,
        });
        values.collect::<Vec<_>>()
    };
    for stops in [vec![1], vec![8, 9], vec![13, 27, 39]] {
        let folder = tempfile::tempdir().unwrap();
        for (number, stop) in stops.iter().enumerate() {
            let mut observer = Hears(|event: Event| match event {
                Event::Step { step, .. } if step.step == *stop => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            });
            let outcome = train(folder.path(), &texts, 2.0, number > 0, &mut observer).unwrap();
            assert!(matches!(&outcome, Outcome::Stopped { step, .. } if step == stop), "{outcome:?}");
        }
        train(folder.path(), &texts, 2.0, true, &mut go_on()).unwrap();
        assert!(fs::read(model_file(folder.path())).unwrap() == model, "stopped at {stops:?}");
        assert_eq!(log(folder.path()), log(whole.path()));
        // All done: going on changes nothing.
        train(folder.path(), &texts, 2.0, true, &mut go_on()).unwrap();
        assert!(fs::read(model_file(folder.path())).unwrap() == model);
    }
}

#[test]
fn a_run_that_diverges_stops_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = prepared(folder.path());
    let last = AtomicU64::new(0);
    let mut observer = Hears(|event: Event| {
        if let Event::Step { step, .. } = event {
            last.store(step.step, Relaxed);
        }
        ControlFlow::Continue(())
    });
    let error = train(folder.path(), &prepared, 3e4, false, &mut observer).unwrap_err();
    assert!(
        matches!(&error, RunError::Diverged { step, .. } if *step == last.load(Relaxed) + 1),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(text.contains("lower the learning rate"), "{text}");
    if last.load(Relaxed) >= 8 {
        assert!(text.contains("step-000000"), "{text}");
    } else {
        assert!(text.contains("no checkpoint yet"), "{text}");
    }
}

#[test]
fn checkpoints_of_other_runs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = prepared(folder.path());
    let mut stop = Hears(|event: Event| match event {
        Event::Step { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    train(folder.path(), &prepared, 1.0, false, &mut stop).unwrap();
    let checkpoint = checkpoints(folder.path(), &recipe()).newest().unwrap().unwrap();
    let other = Recipe { seed: 2, ..recipe() };
    let mut learner = Pairs::new(300, 1.0);
    let training = Training {
        recipe: &other,
        folder: folder.path(),
        prepared: &prepared,
        learner: &mut learner,
        processes: &Alone,
        sampler: &|_| Ok(String::new()),
    };
    let error = training.run(Some(&checkpoint), &mut go_on()).unwrap_err().to_string();
    assert!(
        error.contains("seed = 1") && error.contains("says 2") && error.contains("state.json"),
        "{error}"
    );
}

#[test]
fn a_recipe_is_done_from_texts_to_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("texts")).unwrap();
    fs::write(at("texts/stories.txt"), crate::data::tests::stories(20)).unwrap();
    fs::write(at("recipe.toml"), "# as parsed").unwrap();
    let (recipe, exec) = (recipe(), chalot_tensor::exec::Exec::new(chalot_simd::Isa::best(), 2));
    let run = |resume, force, stop: u64| {
        let options = Options {
            recipe: &recipe,
            recipe_file: &at("recipe.toml"),
            folder: &at("run"),
            texts: Some(&at("texts")),
            resume,
            checkpoint: None,
            force,
            exec: &exec,
            processes: &Alone,
            metadata: &|_| Vec::new(),
            read_vocabulary: &|_| Err("none".into()),
        };
        let mut observer = Hears(|event: Event| match event {
            Event::Step { step, .. } if step.step == stop => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        let make = |_: &Options, prepared: &Prepared| Ok(Pairs::new(prepared.tokenizer.vocab_size(), 2.0));
        start_with(&options, &make, &mut observer, &|_| Ok("Once".into()))
    };
    // Going on with nothing is beginning.
    assert!(matches!(run(true, false, 5).unwrap(), Outcome::Stopped { step: 5, .. }));
    let error = run(false, false, 0).unwrap_err().to_string();
    assert!(error.contains("5 steps") && error.contains("--resume") && error.contains("--force"), "{error}");
    // The texts are not needed any more.
    fs::remove_file(at("texts/stories.txt")).unwrap();
    assert!(matches!(run(true, false, 0).unwrap(), Outcome::Finished { .. }));
    let card = fs::read_to_string(at("run/hf/README.md")).unwrap();
    for part in ["# Test", "stories.txt", "bits a byte", "Once", "90.0 thousand"] {
        assert!(card.contains(part), "{part}: {card}");
    }
    for file in
        ["hf/model.safetensors", "hf/tokenizer.json", "hf/tokenizer_config.json", "recipe.toml", "model.gguf"]
    {
        assert!(at("run").join(file).is_file(), "{file}");
    }
    assert!(run(false, true, 5).unwrap_err().to_string().contains("data.texts[0].path"));
    let steps = || checkpoints(&at("run"), &recipe).list().unwrap().into_iter().map(|(step, _)| step).max();
    assert_eq!(steps(), Some(40), "the earlier run is still there");
    fs::write(at("texts/stories.txt"), crate::data::tests::stories(20)).unwrap();
    run(false, true, 5).unwrap();
    assert_eq!(steps(), Some(5));
}
