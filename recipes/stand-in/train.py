"""Trains the stand-in story model on what prepare.py wrote, and exports it as a Hugging Face folder.

    python train.py DATA OUT --minutes 50     the learning rate follows the clock (or --steps N: it follows the steps)
    python train.py DATA OUT --export-only    OUT/checkpoint.pt to OUT/hf, at any time

Matrices are trained with Muon, embeddings and norms with AdamW.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from model import BOS, EOS, SHAPE, Llama, export
from tokenizers import Tokenizer


def loss_of(model, windows, reduction="mean"):
    """Cross-entropy of windows [batch, length + 1]; the start of the next document is not a prediction."""
    targets = windows[:, 1:].masked_fill(windows[:, 1:] == BOS, -100)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(windows[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction=reduction)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by a quintic Newton-Schulz iteration (Jordan et al., 2024)."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.05):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("momentum", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                u = p.grad.lerp(m, group["momentum"])
                tall = u.shape[0] > u.shape[1]
                u = ((u.T if tall else u) / (u.norm() + 1e-7)).bfloat16()
                for _ in range(5):
                    a = u @ u.T
                    u = 3.4445 * u + (-4.775 * a + 2.0315 * a @ a) @ u
                u = (u.T if tall else u) * max(1, p.shape[0] / p.shape[1]) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(u, alpha=-group["lr"])


def windows(data, length, rng):
    """Endless stream of windows i64 [length + 1]. Each epoch walks through every document in steps of about a window; a
    window begins with <|bos|> at a paragraph. A new epoch cuts the documents elsewhere."""
    tokens, starts = data["tokens"].astype(np.int64), data["starts"]
    ends = np.append(data["openings"][1:], len(tokens))
    while True:
        epoch = []
        for opening, end, weight in zip(data["openings"], ends, data["weights"]):
            own = starts[np.searchsorted(starts, opening) : np.searchsorted(starts, end)]
            for _ in range(weight):
                at = opening
                while at is not None:
                    epoch.append(at)
                    reach = at + (length if at != opening else rng.integers(length // 2, length))
                    inside, beyond = own[(own > at) & (own <= reach)], own[own > reach]
                    at = inside[-1] if len(inside) else beyond[0] if len(beyond) else None
        for at in rng.permutation(epoch):
            if at + length <= len(tokens):
                window = tokens[at - 1 : at + length].copy()
                window[0] = BOS
                yield window


@torch.no_grad()
def bits_per_byte(model, data, length):
    tokens = torch.from_numpy(data["tokens"].astype(np.int64))
    tokens = tokens[: len(tokens) // length * length].view(-1, length)
    tokens = torch.cat((torch.full((len(tokens), 1), BOS), tokens), 1)
    nats = sum(loss_of(model, chunk, "sum").item() for chunk in tokens.split(16))
    return nats / math.log(2) / data["bytes"].item() * data["tokens"].size / tokens[:, 1:].numel()


@torch.no_grad()
def sample(model, tokenizer, n, temperature, rng, context):
    ids = [BOS]
    while len(ids) < n and ids[-1] != EOS:
        probabilities = F.softmax(model(torch.tensor([ids[-context:]]))[0, -1].double() / temperature, -1)
        ids.append(int(torch.multinomial(probabilities, 1, generator=rng)))
    return tokenizer.decode(ids)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=50)
    parser.add_argument("--steps", type=int, help="fixed number of steps instead of minutes")
    parser.add_argument("--batch", type=int, default=16, help="windows of 256 tokens a step")
    parser.add_argument("--lr", type=float, default=0.02, help="of Muon; AdamW's is 0.3 of it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="torch.compile the forward pass (needs a C++ compiler)")
    parser.add_argument("--export-only", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / "checkpoint.pt"
    model = Llama(SHAPE)
    if args.export_only:
        return export(torch.load(checkpoint), args.data, args.out / "hf")

    train, held_out = np.load(args.data / "train.npz"), np.load(args.data / "held_out.npz")
    train = {name: train[name] for name in train.files}
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim < 2 or "embed" in n]
    optimizers = [
        Muon(matrices, args.lr),
        torch.optim.AdamW(others, args.lr * 0.3, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    forward = torch.compile(model) if args.compile else model
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(train['tokens'])} tokens", flush=True)

    length, stream = 0, None
    begin, step, seen, progress, mean = time.time(), 0, 0, 0.0, None
    while progress < 1:
        # The first 80% on windows of half the context, the rest on whole ones, so that every position has been trained.
        wanted = SHAPE["context"] // 2 if progress < 0.8 else SHAPE["context"]
        if wanted != length:
            length, stream = wanted, windows(train, wanted, np.random.default_rng(args.seed + wanted))
        batch = torch.from_numpy(np.stack([next(stream) for _ in range(args.batch * 256 // length)]))
        loss = loss_of(forward, batch)
        loss.backward()
        rate = min(1, (step + 1) / 100) * min(1, (1 - progress) / 0.6)  # warm up, hold, then linearly to zero
        for optimizer, full in zip(optimizers, (args.lr, args.lr * 0.3)):
            for group in optimizer.param_groups:
                group["lr"] = full * rate
            optimizer.step()
        model.zero_grad(set_to_none=True)

        step, seen = step + 1, seen + batch[:, 1:].numel()
        mean = loss.item() if mean is None else 0.95 * mean + 0.05 * loss.item()
        elapsed = time.time() - begin
        progress = step / args.steps if args.steps else elapsed / (60 * args.minutes)
        if step % 50 == 0:
            print(
                f"step {step}  {progress:6.1%}  loss {mean:.4f}  {seen / elapsed:.0f} tokens/s  {elapsed / 60:.1f} min",
                flush=True,
            )
        if step % 500 == 0 or progress >= 1:
            bits = bits_per_byte(model, held_out, SHAPE["context"])
            print(f"step {step}  held out: {bits:.4f} bits per byte, {seen} tokens seen", flush=True)
            torch.save(model.state_dict(), checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            export(model.state_dict(), args.data, args.out / "hf")

    tokenizer, rng = Tokenizer.from_file(str(args.data / "tokenizer.json")), torch.Generator().manual_seed(args.seed)
    for _ in range(5):
        print("\n--------\n" + sample(model, tokenizer, 300, 0.8, rng, SHAPE["context"]))


if __name__ == "__main__":
    main()
