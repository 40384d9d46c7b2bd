"""A plain Llama: RMSNorm, rotary positions (the halves of a head rotate), SwiGLU, tied embeddings. Parameters have the
names that Hugging Face checkpoints give them."""

import json
import shutil
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file

BOS, EOS = 0, 1
SHAPE = dict(vocab=2048, hidden=160, layers=5, heads=5, head_dim=32, ffn=432, context=512, theta=10000.0, eps=1e-5)


class Attention(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.heads, self.head_dim = s["heads"], s["head_dim"]
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(s["hidden"], s["hidden"], bias=False) for _ in range(4)
        )

    def forward(self, x, cos, sin):
        b, t, d = x.shape
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (p(x).view(b, t, self.heads, self.head_dim).transpose(1, 2) for p in projections)
        q, k = q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, d))


class Mlp(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(s["hidden"], s["ffn"], bias=False) for _ in range(2))
        self.down_proj = nn.Linear(s["ffn"], s["hidden"], bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = (nn.RMSNorm(s["hidden"], s["eps"]) for _ in range(2))
        self.self_attn, self.mlp = Attention(s), Mlp(s)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """tokens [batch, length] to logits [batch, length, vocab]."""

    def __init__(self, s):
        super().__init__()
        self.embed_tokens = nn.Embedding(s["vocab"], s["hidden"])
        self.layers = nn.ModuleList(Layer(s) for _ in range(s["layers"]))
        self.norm = nn.RMSNorm(s["hidden"], s["eps"])
        frequencies = s["theta"] ** (-torch.arange(0, s["head_dim"], 2) / s["head_dim"])
        angles = torch.outer(torch.arange(s["context"]), frequencies).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, p in self.named_parameters():
            if "embed" in name:
                nn.init.normal_(p, std=0.02)
            elif "o_proj" in name or "down_proj" in name:
                nn.init.zeros_(p)  # every layer begins as the identity
            elif p.ndim == 2:
                nn.init.normal_(p, std=p.shape[1] ** -0.5)

    def forward(self, tokens):
        x, t = self.embed_tokens(tokens), tokens.shape[1]
        for layer in self.layers:
            x = layer(x, self.cos[:t], self.sin[:t])
        return F.linear(self.norm(x), self.embed_tokens.weight)


def rotate_half(x):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((-b, a), dim=-1)


def export(state, data_folder, out):
    """The Hugging Face folder: weights in f32, config, tokenizer, model card."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": value.contiguous() for name, value in state.items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    s = SHAPE
    config = dict(
        architectures=["LlamaForCausalLM"],
        model_type="llama",
        torch_dtype="float32",
        vocab_size=s["vocab"],
        hidden_size=s["hidden"],
        intermediate_size=s["ffn"],
        num_hidden_layers=s["layers"],
        num_attention_heads=s["heads"],
        num_key_value_heads=s["heads"],
        head_dim=s["head_dim"],
        hidden_act="silu",
        max_position_embeddings=s["context"],
        rope_theta=s["theta"],
        rms_norm_eps=s["eps"],
        tie_word_embeddings=True,
        attention_bias=False,
        mlp_bias=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    tokenizer = dict(
        tokenizer_class="PreTrainedTokenizerFast",
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        add_bos_token=True,
        add_eos_token=False,
        model_max_length=s["context"],
        clean_up_tokenization_spaces=False,
    )
    generation = dict(bos_token_id=BOS, eos_token_id=EOS, do_sample=True, temperature=0.8)
    for name, value in ("config", config), ("tokenizer_config", tokenizer), ("generation_config", generation):
        (out / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n")
    shutil.copy(data_folder / "tokenizer.json", out / "tokenizer.json")
    shutil.copy(Path(__file__).with_name("MODEL_CARD.md"), out / "README.md")
    for file in out.iterdir():
        file.chmod(0o644)
