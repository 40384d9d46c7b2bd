"""Training steps beside the same ternary model in PyTorch on the CPU, eager and compiled.

    cargo build --release -p chalot-train --example step && python3 benches/peers/train.py --prepare
    python3 benches/peers/train.py && python3 benches/peers/train.py --write-docs

A step is forward, backward, clipping and AdamW on random tokens; the first is unmeasured, a sample is the median of the others.
"""
import argparse
import json
import os
import subprocess
from pathlib import Path

from common import OURS, ROOT, WORK, Case, Results, fail, venv

TORCH = "torch==2.15.0"
INTRO = """A step of 8 rows of 256 tokens: 8 layers of width 256, 8 heads (4 for keys and values), vocabulary 4,096, two threads. Dense:
feed-forward 704 wide, 7 million parameters. Experts: 16 of width 256 in each layer, 2 for each token and a shared one. Both
sides round weights to ternary and activations to 8 bits, PyTorch as floats."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=lambda path: Path(path).resolve(), default=WORK, help="folder for environment and samples")
    parser.add_argument("--only", help="only cases whose key has this")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each case")
    parser.add_argument("--steps", type=int, default=3, help="steps of a sample")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--prepare", action="store_true", help="the environment only")
    parser.add_argument("--write-docs", action="store_true", help="write the documentation from the samples")
    args = parser.parse_args()
    group = "A step of AdamW"
    cases = [Case("train/dense", group, "dense, 7 M parameters", "tokens/s", 2.0),
             Case("train/experts", group, "16 experts a layer, 2 and a shared one for each token", "tokens/s", 2.0)]
    results = Results("train", args.work, cases)
    if args.write_docs:
        return results.write_docs("Training, beside PyTorch", INTRO, "benches/peers/train.py")
    python = venv(args.work / "venv-torch", [TORCH])
    if args.prepare:
        return None
    program = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "release" / "examples" / "step"
    if not program.exists():
        fail(f"{program} is not there: run `cargo build --release -p chalot-train --example step`")
    commit = subprocess.run(["git", "-C", ROOT, "log", "-1", "--format=%h", "--", "crates"], capture_output=True, text=True).stdout
    versions = {"torch": TORCH.partition("==")[2], OURS: f"commit {commit.strip()}"}
    worker = subprocess.Popen([python, Path(__file__).with_name("train_worker.py")], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def torch(experts, compiled):
        work = dict(experts=experts, compile=compiled, rows=8, length=256, steps=args.steps)
        worker.stdin.write(json.dumps(work) + "\n")
        worker.stdin.flush()
        return float(worker.stdout.readline() or fail("the worker ended early"))

    def ours(experts):
        command = [program, 8, 4096, 8, 256, args.steps + 1, 2, 16 if experts else 0, "--adamw", "--json"]
        ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
        return json.loads(ran.stdout)["tokens_per_second"]

    for case, experts in zip(cases, [False, True]):
        if args.only and args.only not in case.key:
            continue
        programs = {"torch, eager": lambda: torch(experts, False)}
        if not args.no_compile:
            programs["torch, compiled"] = lambda: torch(experts, True)
        programs[OURS] = lambda: ours(experts)
        results.add(case, programs, args.rounds, versions)
    worker.stdin.close()
    worker.wait()
    print(results.text())


if __name__ == "__main__":
    main()
