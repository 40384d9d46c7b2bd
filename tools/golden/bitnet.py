"""BitNet models in numpy: random checkpoints in the published layouts, and a forward pass with int8 activations.

A ternary layer quantizes its input per token, s = 127 / max(max|x|, 1e-5), q = clamp(round(x s), -128, 127) with halves
to even, sums q * code in integers and multiplies by weight scale / s. Everything else is f64, so the logits are exact
up to the rounding of the result, except that a value x s near a half could round the other way in f32.
tokens_away_from_ties chooses the tokens so that none is near: whoever computes in f32 with ordinary care finds the same
integers. What the quantization itself changes is printed by make_golden.py and written down in README.md.

Layouts of `quantization_config`: linear_class "autobitlinear", mode "offline": packed codes, weight_scale multiplies;
mode "online": float weights, codes = clamp(round(w / s), -1, 1), s = max(mean|w|, 1e-5); otherwise "bitlinear": packed
codes, weight_scale divides.
"""

import json

import numpy as np
import torch
from safetensors.torch import load_file, save_file

LINEARS = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
]


def shapes(config):
    """Names and shapes [out, in] of all tensors, before packing."""
    h, f, heads, kv = (
        config[k] for k in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    )
    d = config.get("head_dim", h // heads)
    found = {"model.embed_tokens.weight": (config["vocab_size"], h), "model.norm.weight": (h,)}
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (config["vocab_size"], h)
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        for name, shape in zip(
            LINEARS, [(heads * d, h), (kv * d, h), (kv * d, h), (h, heads * d), (f, h), (f, h), (h, f)]
        ):
            found[f"{p}{name}.weight"] = shape
        found |= {p + "input_layernorm.weight": (h,), p + "post_attention_layernorm.weight": (h,)}
        if config["model_type"] == "bitnet":
            found |= {p + "self_attn.attn_sub_norm.weight": (heads * d,), p + "mlp.ffn_sub_norm.weight": (f,)}
    return found


def is_ternary(name):
    return any(part in name for part in LINEARS)


def mode_of(config):
    quantization = config["quantization_config"]
    return (
        quantization.get("quantization_mode", "offline")
        if quantization.get("linear_class") == "autobitlinear"
        else "divide"
    )


def pack(codes):
    """[out, in] codes to uint8 [out/4, in]: byte row r holds the output rows r + i * out/4 at bits 2i, as code + 1."""
    quarters = (codes + 1).astype(np.uint8).reshape(4, codes.shape[0] // 4, codes.shape[1])
    return quarters[0] | quarters[1] << 2 | quarters[2] << 4 | quarters[3] << 6


def unpack(packed):
    return np.concatenate([(packed >> 2 * i & 3).astype(np.int64) - 1 for i in range(4)])


def absmean(weights):
    scale = max(np.abs(weights).mean(), 1e-5)
    return np.clip(np.rint(weights / scale), -1, 1).astype(np.int64), scale


def write_random(config, out, random_value):
    mode, tensors = mode_of(config), {}
    for name, shape in shapes(config).items():
        value = random_value(name, shape)
        if not is_ternary(name):
            tensors[name] = torch.from_numpy(value).bfloat16()
        elif mode == "online":
            value = torch.from_numpy(value).bfloat16().double().numpy()
            # Only |w| / s = 1/2 decides between two codes: move what lies near it, so that an f32 mean gives the same.
            for _ in range(4):
                near = np.abs(np.abs(value) / absmean(value)[1] - 0.5) < 0.01
                value[near] *= 0.9
            value = torch.from_numpy(value).bfloat16()
            distance = np.abs(value.double().abs().numpy() / absmean(value.double().numpy())[1] - 0.5)
            assert distance.min() > 1e-3, name
            tensors[name] = value
        else:
            codes, scale = absmean(value)
            tensors[name] = torch.from_numpy(pack(codes))
            tensors[name + "_scale"] = torch.tensor([scale if mode == "offline" else 1 / scale]).bfloat16()
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


class Model:
    """A checkpoint folder, everything in f64."""

    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        mode, tensors = mode_of(self.config), load_file(folder / "model.safetensors")
        self.weights, self.ternary = {}, {}
        for name in shapes(self.config):
            value = tensors[name]
            if not is_ternary(name):
                self.weights[name] = value.double().numpy()
            elif mode == "online":
                self.ternary[name] = absmean(value.double().numpy())
            else:
                scale = tensors[name + "_scale"].double().item()
                self.ternary[name] = unpack(value.numpy()), scale if mode == "offline" else 1 / scale

    def linear(self, name, x):
        codes, weight_scale = self.ternary[name + ".weight"]
        if not self.quantize:
            return x @ codes.T * weight_scale
        s = 127 / np.maximum(np.abs(x).max(-1, keepdims=True), 1e-5)
        scaled = x * s
        self.margin = np.minimum(self.margin, np.abs(np.abs(scaled - np.floor(scaled)) - 0.5).min(-1))
        q = np.clip(np.rint(scaled), -128, 127).astype(np.int64)
        return (q @ codes.T) * (weight_scale / s)

    def norm(self, name, x):
        return (
            x
            / np.sqrt(np.mean(x * x, -1, keepdims=True) + self.config["rms_norm_eps"])
            * self.weights[name + ".weight"]
        )

    def rope(self, x):
        n, _, d = x.shape
        angles = np.outer(np.arange(n), self.config["rope_theta"] ** (-np.arange(0, d, 2) / d))[:, None]
        a, b = x[..., : d // 2], x[..., d // 2 :]
        return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], -1)

    def attention(self, p, x):
        n, heads, kv = len(x), self.config["num_attention_heads"], self.config["num_key_value_heads"]
        q, k, v = (
            self.linear(f"{p}self_attn.{w}_proj", x).reshape(n, count, -1)
            for w, count in (("q", heads), ("k", kv), ("v", kv))
        )
        q, k = self.rope(q), self.rope(k)
        k, v = (np.repeat(t, heads // kv, 1) for t in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / q.shape[-1] ** 0.5
        scores = np.where(np.tril(np.ones((n, n), bool)), scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        y = np.einsum("hij,jhd->ihd", scores / scores.sum(-1, keepdims=True), v).reshape(n, -1)
        if self.config["model_type"] == "bitnet":
            y = self.norm(p + "self_attn.attn_sub_norm", y)
        return self.linear(p + "self_attn.o_proj", y)

    def ffn(self, p, x):
        gate, up = self.linear(p + "mlp.gate_proj", x), self.linear(p + "mlp.up_proj", x)
        y = (np.maximum(gate, 0) ** 2 if self.config["hidden_act"] == "relu2" else gate / (1 + np.exp(-gate))) * up
        if self.config["model_type"] == "bitnet":
            y = self.norm(p + "mlp.ffn_sub_norm", y)
        return self.linear(p + "mlp.down_proj", y)

    def logits(self, tokens, quantize=True):
        """[n] to [n, vocab]. Leaves in self.margin [n] how near each token's activations came to a half."""
        self.quantize, self.margin = quantize, np.full(len(tokens), np.inf)
        x = self.weights["model.embed_tokens.weight"][tokens]
        for i in range(self.config["num_hidden_layers"]):
            p = f"model.layers.{i}."
            x = x + self.attention(p, self.norm(p + "input_layernorm", x))
            x = x + self.ffn(p, self.norm(p + "post_attention_layernorm", x))
        return (
            self.norm("model.norm", x) @ self.weights.get("lm_head.weight", self.weights["model.embed_tokens.weight"]).T
        )


def tokens_away_from_ties(model, n, rng, margin=1e-4):
    """n random tokens such that no activation of any of them lies within `margin` of a half before rounding. The model
    is causal: a token that comes too near is replaced by another one."""
    tokens = np.zeros(0, np.int32)
    while len(tokens) < n:
        longer = np.append(tokens, rng.integers(0, model.config["vocab_size"])).astype(np.int32)
        model.logits(longer)
        if model.margin[-1] > margin:
            tokens = longer
    model.logits(tokens)
    return tokens, model.margin.min()
