"""Golden folders for the model tests: small random models of each family, and what transformers computes for them.

    python make_golden.py OUT [NAME ...]

OUT/<name>/ is a Hugging Face folder plus the expected values:
    config.json                as published checkpoints of the family write it
    config.transformers5.json  the same model as transformers 5 writes it; float families only
    model.safetensors          the names that transformers saves
    expected.safetensors       tokens I32 [n], logits F32 [n, vocab]: row i is the prediction after tokens[0..=i]

Float families are computed by transformers (eager attention) in f64, its internal casts to f32 included, from the
weights as they are stored, and rounded to f32 once; the plain f32 run of the same model is compared with it. BitNet
families: see bitnet.py.
"""

import argparse
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # transformers compiles its BitNet helpers; eager is the same arithmetic

import bitnet
import numpy as np
import torch
import transformers
from families import BITNET, FLOAT
from safetensors.numpy import save_file
from transformers import AutoConfig, AutoModelForCausalLM

EAGER = dict(attn_implementation="eager", experts_implementation="eager")  # the plain definitions, which run in f64 too
ROUTER_MARGIN = 5e-4
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def random_value(name, shape, family, rng):
    """Values that make each tensor matter: norms away from 1, biases away from 0, logits of about 3."""
    noise = rng.standard_normal(shape)
    if "norm" in name:
        return 0.3 * noise + (0.0 if family == "gemma3_text" else 1.0)  # Gemma multiplies by 1 + weight
    if name.endswith("bias") or "embed_tokens" in name:
        return 0.4 * noise
    gain = 3.0 if "lm_head" in name else 2.0 if "mlp.gate.weight" in name else 1.3
    return noise * gain / shape[-1] ** 0.5


@contextmanager
def in_f64():
    """transformers casts to f32 in norms, rope and softmax whatever the model's type: here those casts go to f64."""
    saved = torch.float32, torch.float, torch.Tensor.float
    torch.set_default_dtype(torch.float64)
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = saved
        torch.set_default_dtype(torch.float32)


def logits_of(model, tokens):
    with torch.no_grad():
        return model(torch.from_numpy(tokens.astype(np.int64))[None], use_cache=False).logits[0].numpy()


def exact_logits(single, tokens):
    """The logits in f64, and proof that no module fell back to f32."""
    with in_f64():
        double = AutoModelForCausalLM.from_config(single.config, **EAGER).double().eval()
        double.load_state_dict({k: v.to(torch.float64) for k, v in single.state_dict().items()})
        seen = set()
        for module in double.modules():
            module.register_forward_hook(lambda m, i, out: seen.add(out.dtype) if torch.is_tensor(out) else None)
        logits = logits_of(double, tokens)
        assert seen == {torch.float64}, seen
    return logits


def router_margin(model, tokens, top_k):
    """The smallest distance between the last expert taken and the first one left out, over all tokens and layers."""
    margins = []

    def hook(module, inputs, _):
        scores = torch.softmax(inputs[0].reshape(-1, module.weight.shape[1]) @ module.weight.T, -1)
        scores = scores.sort(-1, descending=True).values
        margins.append((scores[:, top_k - 1] - scores[:, top_k]).min().item())

    hooks = [m.register_forward_hook(hook) for name, m in model.named_modules() if name.endswith("mlp.gate")]
    logits_of(model, tokens)
    for handle in hooks:
        handle.remove()
    return min(margins)


def load(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **EAGER).eval()
    torch.nn.Module.float(
        model
    )  # the scales of packed weights stay bf16; transformers' own .float() refuses such models
    return model


def load_with_config(folder, config):
    with tempfile.TemporaryDirectory() as copy:
        shutil.copy(folder / "model.safetensors", copy)
        shutil.copy(folder / config, Path(copy, "config.json"))
        return load(copy)


def write_config(folder, config):
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def make_float(name, out, rng):
    config, n = FLOAT[name]()
    family = config["model_type"]
    parsed = AutoConfig.for_model(**config)
    model = AutoModelForCausalLM.from_config(parsed, dtype=torch.float32)
    for key, tensor in sorted(model.state_dict().items()):
        if key != "lm_head.weight" or not parsed.tie_word_embeddings:
            tensor.copy_(torch.from_numpy(random_value(key, tuple(tensor.shape), family, rng)))
    model.to(getattr(torch, config["torch_dtype"])).save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    (out / "config.json").rename(out / "config.transformers5.json")
    write_config(out, config)

    # From here on everything comes from the folder.
    single = load(out)
    tokens = rng.integers(0, config["vocab_size"], n).astype(np.int32)
    if top_k := config.get("num_experts_per_tok"):
        # A near tie in the router would let two right implementations take different experts.
        while (margin := router_margin(single, tokens, top_k)) < ROUTER_MARGIN:
            tokens = rng.integers(0, config["vocab_size"], n).astype(np.int32)
        print(f"{name}: router margin {margin:.1e}")
    plain = logits_of(single, tokens)
    newer = logits_of(load_with_config(out, "config.transformers5.json"), tokens)
    assert np.array_equal(plain, newer), f"{name}: the two configs mean different models"
    return tokens, exact_logits(single, tokens), plain


def make_bitnet(name, out, rng):
    config, n = BITNET[name]()
    out.mkdir(parents=True)
    write_config(out, config)
    bitnet.write_random(config, out, lambda key, shape: random_value(key, shape, config["model_type"], rng))
    model = bitnet.Model(out)
    tokens, margin = bitnet.tokens_away_from_ties(model, n, rng)
    exact = model.logits(tokens)
    change = rms(exact - model.logits(tokens, quantize=False)) / rms(exact)
    print(f"{name}: rounding margin {margin:.1e}; int8 activations change the logits by {change:.4f} (rms over rms)")
    return tokens, exact, logits_of(load(out), tokens)


def rms(x):
    return float(np.sqrt(np.mean(np.square(x))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", help="default: all")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.names or [*FLOAT, *BITNET]:
        out = args.out / name
        shutil.rmtree(out, ignore_errors=True)
        make = make_float if name in FLOAT else make_bitnet
        tokens, exact, check = make(name, out, np.random.default_rng(sum(map(ord, name))))
        worst = np.abs(exact - check).max() / rms(exact)
        assert worst < 1e-5, f"{name}: transformers in f32 is off by {worst}"
        save_file({"tokens": tokens, "logits": exact.astype(np.float32)}, out / "expected.safetensors")
        for file in out.iterdir():
            file.chmod(0o644)
        size = sum(f.stat().st_size for f in out.iterdir()) / 1000
        print(f"{name}: {len(tokens)} tokens, logits rms {rms(exact):.2f}, f32 off by {worst:.1e} of it, {size:.0f} kB")


if __name__ == "__main__":
    main()
