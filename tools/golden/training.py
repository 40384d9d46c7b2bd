"""Golden files of crates/train/tests/golden.rs: loss, gradients and ten optimizer steps of small ternary models in PyTorch.

    python training.py OUT        (torch, numpy; writes OUT/dense.json and OUT/experts.json)

The model is the one that crates/train defines, in float64 with explicit rounding: products of 8-bit activations and ternary
weights are sums of integers, exact either way, so the two differ by the rounding of norms, soft-max and sums alone. First
weights are made by a formula that both sides compute.
"""

import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
VOCAB, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, WIDTH, LAYERS, EXIT = 48, 32, 4, 2, 8, 48, 2, 1
ROWS, LENGTH, EPS, THETA = 2, 12, 1e-5, 10000.0
EXPERTS, TOP_K, EXPERT_WIDTH = 4, 2, 32
OPTIONS = dict(exit_weight=0.3, z_loss=1e-2, router_z_loss=1e-2, balance_loss=1e-1)


def first(name, shape, embedding):
    """Weights from a hash of name and index: the same numbers in both languages."""
    state = 0
    for byte in name.encode():
        state = (state * 31 + byte) % 2**32
    n = 1
    for d in shape:
        n *= d
    index = torch.arange(n, dtype=torch.int64)
    x = (index * 2654435761 + state) % 2**32
    x = ((x ^ (x >> 15)) * 2246822519) % 2**32
    x = ((x ^ (x >> 13)) * 3266489917) % 2**32
    unit = ((x ^ (x >> 16)) >> 8).double() / 2**24
    if len(shape) == 1:
        return (0.75 + 0.5 * unit).float().double().view(shape)
    scale = 0.05 if embedding else 2.0 / shape[1] ** 0.5
    return ((unit - 0.5) * scale).float().double().view(shape)


def straight(x, rounded):
    return x + (rounded - x).detach()


def act(x):
    s = 127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5)
    return straight(x, (x * s).round().clamp(-128, 127) / s)


def ternary(w):
    # The scale is kept as a single-precision number.
    scale = w.abs().mean().clamp(min=1e-5).float().double()
    return straight(w, (w / scale).round().clamp(-1, 1) * scale)


def int8(w):
    scale = (w.abs().amax(1, keepdim=True).float() / 127).double()
    return straight(w, (w / scale).round().clamp(-127, 127) * scale)


def norm(x, w):
    return x * (x.pow(2).mean(-1, keepdim=True) + EPS).rsqrt() * w


def turn(x):
    half = HEAD_DIM // 2
    frequency = THETA ** (-2.0 * torch.arange(half) / HEAD_DIM)
    angle = torch.arange(LENGTH)[:, None] * frequency
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Model:
    def __init__(self, experts):
        self.experts, self.p = experts, {}
        make = lambda name, *shape: self.p.__setitem__(name, first(name, shape, "embed" in name).requires_grad_())
        make("model.embed_tokens.weight", VOCAB, HIDDEN)
        for i in range(LAYERS):
            at = f"model.layers.{i}."
            make(at + "input_layernorm.weight", HIDDEN)
            make(at + "self_attn.q_proj.weight", HEADS * HEAD_DIM, HIDDEN)
            make(at + "self_attn.k_proj.weight", KV_HEADS * HEAD_DIM, HIDDEN)
            make(at + "self_attn.v_proj.weight", KV_HEADS * HEAD_DIM, HIDDEN)
            make(at + "self_attn.o_proj.weight", HIDDEN, HEADS * HEAD_DIM)
            make(at + "self_attn.q_norm.weight", HEAD_DIM)
            make(at + "self_attn.k_norm.weight", HEAD_DIM)
            make(at + "self_attn.attn_sub_norm.weight", HEADS * HEAD_DIM)
            make(at + "post_attention_layernorm.weight", HIDDEN)
            nets = [("mlp", WIDTH)]
            if experts:
                make(at + "mlp.gate.weight", EXPERTS, HIDDEN)
                nets = [(f"mlp.experts.{e}", EXPERT_WIDTH) for e in range(EXPERTS)] + [("mlp.shared_expert", EXPERT_WIDTH)]
                make(at + "mlp.experts.ffn_sub_norm.weight", EXPERTS * EXPERT_WIDTH)
            for net, width in nets:
                make(at + net + ".gate_proj.weight", width, HIDDEN)
                make(at + net + ".up_proj.weight", width, HIDDEN)
                make(at + net + ".down_proj.weight", HIDDEN, width)
                if not net.startswith("mlp.experts"):
                    make(at + net + ".ffn_sub_norm.weight", width)
        make("model.norm.weight", HIDDEN)

    def linear(self, x, name):
        return act(x) @ ternary(self.p[name + ".weight"]).T

    def network(self, x, at, sub_norm):
        u = F.relu(self.linear(x, at + ".gate_proj")).pow(2) * self.linear(x, at + ".up_proj")
        return self.linear(norm(u, sub_norm), at + ".down_proj")

    def mixture(self, x, at):
        p, flat = self.p, x.reshape(-1, HIDDEN)
        logits = flat @ p[at + "mlp.gate.weight"].T
        probabilities = logits.softmax(-1)
        chosen = logits.topk(TOP_K, -1).indices
        weights = probabilities.gather(1, chosen)
        weights = weights / weights.sum(-1, keepdim=True)
        norms = p[at + "mlp.experts.ffn_sub_norm.weight"].view(EXPERTS, -1)
        out = self.network(flat, at + "mlp.shared_expert", p[at + "mlp.shared_expert.ffn_sub_norm.weight"])
        for e in range(EXPERTS):
            token, slot = (chosen == e).nonzero(as_tuple=True)
            y = self.network(flat[token], at + f"mlp.experts.{e}", norms[e])
            out = out.index_add(0, token, weights[token, slot, None] * y)
        lse = logits.logsumexp(-1)
        visits = torch.zeros(ROWS * LENGTH, EXPERTS).scatter(1, chosen, 1.0).view(ROWS, LENGTH, EXPERTS).sum(1)
        share = visits * EXPERTS / (TOP_K * LENGTH)
        balance = (share[:, None] * probabilities.view(ROWS, LENGTH, EXPERTS)).sum()
        self.extra = self.extra + OPTIONS["router_z_loss"] * lse.pow(2).sum() + OPTIONS["balance_loss"] * balance
        return out.view_as(x)

    def head(self, h, targets):
        z = act(norm(h, self.p["model.norm.weight"])) @ int8(self.p["model.embed_tokens.weight"]).T
        return F.cross_entropy(z.flatten(0, 1), targets.flatten(), reduction="sum"), z.logsumexp(-1).pow(2).sum()

    def loss(self, inputs, targets):
        p, self.extra = self.p, 0.0
        h = int8(p["model.embed_tokens.weight"])[inputs]
        for i in range(LAYERS):
            at = f"model.layers.{i}."
            if i == EXIT:
                exit_loss, _ = self.head(h, targets)
            x = norm(h, p[at + "input_layernorm.weight"])
            q = self.linear(x, at + "self_attn.q_proj").view(ROWS, LENGTH, HEADS, HEAD_DIM)
            k = self.linear(x, at + "self_attn.k_proj").view(ROWS, LENGTH, KV_HEADS, HEAD_DIM)
            v = self.linear(x, at + "self_attn.v_proj").view(ROWS, LENGTH, KV_HEADS, HEAD_DIM)
            q, k = turn(norm(q, p[at + "self_attn.q_norm.weight"])), turn(norm(k, p[at + "self_attn.k_norm.weight"]))
            k, v = (t.repeat_interleave(HEADS // KV_HEADS, 2) for t in (k, v))
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
            scores = (q @ k.transpose(2, 3)) * HEAD_DIM**-0.5
            scores = scores.masked_fill(torch.ones(LENGTH, LENGTH).triu(1).bool(), -torch.inf)
            o = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
            h = h + self.linear(norm(o, p[at + "self_attn.attn_sub_norm.weight"]), at + "self_attn.o_proj")
            x = norm(h, p[at + "post_attention_layernorm.weight"])
            h = h + (self.mixture(x, at) if self.experts else self.network(x, at + "mlp", p[at + "mlp.ffn_sub_norm.weight"]))
        main, z = self.head(h, targets)
        total = main + OPTIONS["exit_weight"] * exit_loss + OPTIONS["z_loss"] * z + self.extra
        return main, exit_loss, total


def orthogonal(u):
    u = u / (u.norm() + 1e-7)
    tall = u.shape[0] > u.shape[1]
    u = u.T if tall else u
    for _ in range(5):
        a = u @ u.T
        u = 3.4445 * u + (-4.775 * a + 2.0315 * a @ a) @ u
    return u.T if tall else u


def golden(experts, method):
    model = Model(experts)
    out = {"losses": [], "exit_losses": []}
    state = {}
    for step in range(10):
        ids = (torch.arange(ROWS * (LENGTH + 1)) * 7 + step * 5 + 3) % 41 % VOCAB
        ids = ids.view(ROWS, LENGTH + 1)
        main, exit_loss, total = model.loss(ids[:, :-1], ids[:, 1:])
        tokens = ROWS * LENGTH
        grads = torch.autograd.grad(total / tokens, list(model.p.values()))
        out["losses"].append(main.item() / tokens)
        out["exit_losses"].append(exit_loss.item() / tokens)
        if step == 0:
            out["gradients"] = {n: [float(f"{x:.9g}") for x in g.flatten().tolist()] for n, g in zip(model.p, grads)}
        size = torch.stack([g.pow(2).sum() for g in grads]).sum().sqrt()
        scale = min(1.0, 1.0 / size.item())
        with torch.no_grad():
            for (name, p), g in zip(model.p.items(), grads):
                g = g * scale
                m, v = state.setdefault(name, [torch.zeros_like(p), torch.zeros_like(p)])
                matrix = "proj" in name
                decay = 0.05 if matrix else 0.0
                if matrix and method == "muon":
                    m.lerp_(g, 0.05)
                    p.mul_(1 - 0.02 * decay)
                    p.sub_(0.02 * max(1, p.shape[0] / p.shape[1]) ** 0.5 * orthogonal(g.lerp(m, 0.95)))
                else:
                    rate = 0.003 if matrix else 0.004
                    m.lerp_(g, 0.1)
                    v.lerp_(g * g, 0.05)
                    p.mul_(1 - rate * decay)
                    p.sub_(rate * (m / (1 - 0.9 ** (step + 1))) / ((v / (1 - 0.95 ** (step + 1))).sqrt() + 1e-8))
    return out


def main():
    folder = Path(sys.argv[1])
    for name, experts, method in [("dense", False, "muon"), ("experts", True, "adamw")]:
        (folder / f"{name}.json").write_text(json.dumps(golden(experts, method)) + "\n")


if __name__ == "__main__":
    main()
