"""Times training steps of a ternary model in PyTorch: one line of JSON in (experts, compile, steps), tokens a second out.

The model is that of crates/train: BitLinear (absmean ternary weights, 8-bit activations, straight-through), sub-norms, gated
relu2, grouped queries with rope and norms of heads, tied 8-bit embedding; experts by a loop over gathered tokens. A step is
forward, backward, clipping and AdamW (fused).
"""
import json
import sys
import time
from statistics import median

import torch
import torch.nn.functional as F

VOCAB, HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, WIDTH, EPS = 4096, 256, 8, 8, 4, 32, 704, 1e-5
EXPERTS, TOP_K, EXPERT_WIDTH = 16, 2, 256


def straight(x, rounded):
    return x + (rounded - x).detach()


def act(x):
    s = 127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5)
    return straight(x, (x * s).round().clamp(-128, 127) / s)


class Linear(torch.nn.Linear):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x):
        w = self.weight
        scale = w.abs().mean().clamp(min=1e-5)
        return F.linear(act(x), straight(w, (w / scale).round().clamp(-1, 1) * scale))


class Norm(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, EPS)


class Network(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gate, self.up, self.down, self.norm = Linear(HIDDEN, width), Linear(HIDDEN, width), Linear(width, HIDDEN), Norm(width)

    def forward(self, x):
        return self.down(self.norm(F.relu(self.gate(x)).pow(2) * self.up(x)))


class Mixture(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.router = torch.nn.Linear(HIDDEN, EXPERTS, bias=False)
        self.experts = torch.nn.ModuleList(Network(EXPERT_WIDTH) for _ in range(EXPERTS))
        self.shared = Network(EXPERT_WIDTH)

    def forward(self, x):
        flat = x.view(-1, HIDDEN)
        weights, chosen = self.router(flat).softmax(-1).topk(TOP_K, -1)
        weights = weights / weights.sum(-1, keepdim=True)
        out = self.shared(flat)
        for index, expert in enumerate(self.experts):
            token, slot = (chosen == index).nonzero(as_tuple=True)
            out = out.index_add(0, token, weights[token, slot, None] * expert(flat[token]))
        return out.view_as(x)


class Layer(torch.nn.Module):
    def __init__(self, experts):
        super().__init__()
        self.q, self.o = Linear(HIDDEN, HEADS * HEAD_DIM), Linear(HEADS * HEAD_DIM, HIDDEN)
        self.k, self.v = Linear(HIDDEN, KV_HEADS * HEAD_DIM), Linear(HIDDEN, KV_HEADS * HEAD_DIM)
        self.norm, self.ffn_norm, self.sub_norm = Norm(HIDDEN), Norm(HIDDEN), Norm(HEADS * HEAD_DIM)
        self.q_norm, self.k_norm = Norm(HEAD_DIM), Norm(HEAD_DIM)
        self.ffn = Mixture() if experts else Network(WIDTH)

    def forward(self, h, cos, sin):
        rows, length, _ = h.shape
        x = self.norm(h)
        heads = lambda y, n: y.view(rows, length, n, HEAD_DIM).transpose(1, 2)
        q, k, v = heads(self.q(x), HEADS), heads(self.k(x), KV_HEADS), heads(self.v(x), KV_HEADS)

        def turn(y):
            a, b = y.chunk(2, -1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

        q, k = turn(self.q_norm(q)), turn(self.k_norm(k))
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        h = h + self.o(self.sub_norm(o.transpose(1, 2).flatten(2)))
        return h + self.ffn(self.ffn_norm(h))


class Model(torch.nn.Module):
    def __init__(self, experts):
        super().__init__()
        self.embedding = torch.nn.Parameter(torch.randn(VOCAB, HIDDEN) * 0.02)
        self.layers = torch.nn.ModuleList(Layer(experts) for _ in range(LAYERS))
        self.norm = Norm(HIDDEN)

    def forward(self, inputs, targets, cos, sin):
        scale = self.embedding.abs().amax(1, keepdim=True) / 127
        table = straight(self.embedding, (self.embedding / scale).round() * scale)
        h = F.embedding(inputs, table)
        for layer in self.layers:
            h = layer(h, cos, sin)
        return F.cross_entropy((act(self.norm(h)) @ table.T).flatten(0, 1), targets.flatten())


torch.set_num_threads(2)
made = {}
for line in sys.stdin:
    work = json.loads(line)
    rows, length = work["rows"], work["length"]
    key = (work["experts"], work["compile"])
    if key not in made:
        torch.manual_seed(1)
        model = Model(work["experts"])
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
        made[key] = model, torch.compile(model) if work["compile"] else model, optimizer
    model, forward, optimizer = made[key]
    frequency = 10000.0 ** (-2 * torch.arange(HEAD_DIM // 2) / HEAD_DIM)
    angle = torch.arange(length)[:, None] * frequency
    cos, sin = angle.cos(), angle.sin()
    times = []
    for _ in range(work["steps"] + 1):
        inputs, targets = torch.randint(VOCAB, (rows, length)), torch.randint(VOCAB, (rows, length))
        start = time.perf_counter()
        forward(inputs, targets, cos, sin).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start)
    print(rows * length / median(times[1:]), flush=True)
