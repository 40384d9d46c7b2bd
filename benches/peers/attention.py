"""Attention of a causal prompt beside PyTorch's scaled_dot_product_attention on the CPU.

    cargo build --release && python3 benches/peers/attention.py --prepare
    python3 benches/peers/attention.py && python3 benches/peers/attention.py --write-docs

Ours is `chalot bench attention`: writing keys and values into the cache, then attention. PyTorch's tensors lie ready. Both
are called once unmeasured; a sample is the median of some calls.
"""
import argparse
import json
import subprocess
from pathlib import Path

from common import OURS, WORK, Case, Measured, Results, chalot, chalot_version, fail, run_json, venv

TORCH = "torch==2.15.0"
THREADS, HEADS = 2, 32
INTRO = """A causal prompt, 32 heads, 2 threads. PyTorch computes in the type that stands beside it; ours keeps keys and values
in it and multiplies f32 (or, with int8, 16-bit integers). Below 1 the other one is faster."""

# tokens, head_dim, (PyTorch's type, our keys and values), the ratio asked for, calls of a sample
WORKS = [
    (2048, 64, ("float32", "f32"), 1.2, 3),
    (2048, 128, ("float32", "f32"), 1.2, 3),
    (2048, 64, ("bfloat16", "f16"), None, 3),
    (2048, 128, ("bfloat16", "f16"), None, 3),
    (2048, 64, ("bfloat16", "int8"), None, 3),
    (2048, 128, ("bfloat16", "int8"), None, 3),
    (8192, 64, ("float32", "f32"), None, 1),
    (8192, 128, ("float32", "f32"), None, 1),
]


def cases():
    for tokens, head_dim, (theirs, ours), target, repeat in WORKS:
        case = Case(f"attention/{tokens}/{head_dim}/{theirs}/{ours}", "Attention of a prompt, beside PyTorch",
                    f"{tokens:,} tokens, heads of {head_dim}, PyTorch {theirs}, ours {ours}", "ms", target,
                    lower_is_better=True, yardstick="peak of f32" if ours != "int8" else None)
        yield case, dict(tokens=tokens, head_dim=head_dim), theirs, ours, repeat


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=lambda path: Path(path).resolve(), default=WORK, help="folder for environment and samples")
    parser.add_argument("--chalot", help="the command to measure [default: this tree's release build]")
    parser.add_argument("--only", help="only cases whose key has this")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each case")
    parser.add_argument("--prepare", action="store_true", help="the environment only")
    parser.add_argument("--write-docs", action="store_true", help="write the documentation from the samples")
    args = parser.parse_args()
    everything = list(cases())
    results = Results("attention", args.work, [case for case, *_ in everything])
    if args.write_docs:
        return results.write_docs("Attention, beside PyTorch", INTRO, "benches/peers/attention.py")
    python = venv(args.work / "venv-torch", [TORCH])
    if args.prepare:
        return None
    command = chalot(args.chalot)
    versions = {"torch": TORCH.partition("==")[2], OURS: chalot_version(args.chalot, command)}
    worker = subprocess.Popen([python, Path(__file__).with_name("attention_worker.py")], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def torch(size, dtype, repeat):
        worker.stdin.write(json.dumps({**size, "heads": HEADS, "threads": THREADS, "dtype": dtype, "repeat": repeat}) + "\n")
        worker.stdin.flush()
        return float(worker.stdout.readline() or fail("the worker ended early"))

    def ours(size, kv, repeat):
        report = run_json([command, "bench", "attention", "--tokens", size["tokens"], "--head-dim", size["head_dim"],
                           "--heads", HEADS, "--kv", kv, "--threads", THREADS, "--rounds", repeat, "--depth", 0, "--no-naive",
                           "--json"])
        return Measured(report["milliseconds"], report["peak_share"])

    for case, size, dtype, kv, repeat in everything:
        if args.only and args.only not in case.key:
            continue
        programs = {"torch": lambda: torch(size, dtype, repeat), OURS: lambda: ours(size, kv, repeat)}
        results.add(case, programs, args.rounds, versions)
    worker.stdin.close()
    worker.wait()
    print(results.text())


if __name__ == "__main__":
    main()
