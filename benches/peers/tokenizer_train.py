"""Training a vocabulary beside other trainers: the merges compared, then time and peak memory.

usage: tokenizer_train.py --prepare TEXT...               the environment; measures nothing
       tokenizer_train.py TEXT... [--vocab-size N] [--rounds N] [--only PROGRAM...] [--more]
       tokenizer_train.py --write-docs                     docs/BENCHMARKS.md, docs/benchmarks/tokenizer_train.{svg,json}

The texts are UTF-8, documents are separated by <|endoftext|>. Every program trains once a round in a process of its own, in turn;
`--bytes N` takes only the beginning of the texts (whole documents), so that the slow ones can be measured in the same run.
"""
import argparse
import json
import os
import subprocess
import time
from pathlib import Path

from common import OURS, WORK, Case, Results, chalot, chalot_version, fail, say, venv

PACKAGES = {"gigatoken": "0.10.0", "tokenizers": "0.23.3", "rustbpe": "0.1.0"}
SEPARATOR = b"<|endoftext|>"
THREADS = 2
INTRO = """
[benches/peers/tokenizer_train.py](../benches/peers/tokenizer_train.py) trains on the same text, GPT-2's pattern, two threads, and compares the
merges of all but rustbpe, which breaks ties in its own way (gigatoken's in any order: it has made one at another turn). Time is that of training alone, from the text to the merges: gigatoken and
chalot read the file themselves, `tokenizers` and rustbpe are given the documents as strings, which is not counted. chalot's is the time of
the whole process: its start and the written tokenizer.json too.
"""

# Runs in the environment: trains, and tells seconds and the merges as pairs of hexadecimal bytes.
WORKER = r'''
import json, sys, time
program, vocab_size, out, *files = sys.argv[1:]
vocab_size = int(vocab_size)
END = "<|endoftext|>"
def documents():
    for file in files:
        with open(file, encoding="utf-8", newline="") as text:
            yield from text.read().split(END)
if program == "gigatoken":
    import gigatoken
    start = time.perf_counter()
    if len(files) == 1:
        _, merges = gigatoken.train_bpe(files[0], vocab_size, [END])
    else:
        _, merges = gigatoken.train_bpe(gigatoken.TextFileSource(files), vocab_size, [END])
    seconds = time.perf_counter() - start
    merges = [[a.hex(), b.hex()] for a, b in merges]
elif program == "tokenizers":
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False, special_tokens=[END])
    texts = list(documents())
    start = time.perf_counter()
    tokenizer.train_from_iterator(texts, trainer)
    seconds = time.perf_counter() - start
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
else:
    import rustbpe
    texts = list(documents())
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    tokenizer = rustbpe.Tokenizer()
    start = time.perf_counter()
    tokenizer.train_from_iterator(iter(texts), vocab_size - 1, pattern=pattern)
    seconds = time.perf_counter() - start
    merges = []
json.dump({"seconds": seconds, "merges": merges}, open(out, "w"))
'''


def run(command, env):
    """Runs a command; seconds of the whole process and its peak memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
    stderr = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status != 0:
        fail(f"{' '.join(map(str, command))}: {stderr.decode(errors='replace')[-2000:]}")
    return seconds, usage.ru_maxrss * 1024 / 1e6


def to_hex(token):
    """A token in the byte alphabet as hexadecimal bytes."""
    return bytes(BYTES[character] for character in token).hex()


def byte_alphabet():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + at): byte for at, byte in enumerate(others)}


BYTES = byte_alphabet()


def beginning(files, size, work):
    """One file with whole documents, about `size` bytes of them."""
    path, taken = work / f"tokenizer-train-{size}.txt", []
    if path.exists():
        return path
    for file in files:
        for document in file.read_bytes().split(SEPARATOR):
            if sum(map(len, taken)) < size:
                # The last one to the end of a line, if it is much too long.
                taken.append(document if len(document) < size else document[:document.rfind(b"\n", 0, size) + 1])
    path.write_bytes(SEPARATOR.join(taken))
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--write-docs", action="store_true")
    parser.add_argument("--bytes", type=int, help="of the texts [default: all]")
    parser.add_argument("--vocab-size", type=int, default=32257)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--more", action="store_true", help="rounds join those that are there")
    parser.add_argument("--only", nargs="+", default=[OURS, *PACKAGES], help="programs")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--chalot", help="the command to measure")
    args = parser.parse_args()
    results_path = args.work / "tokenizer_train.json"
    known = [Case(**entry["case"]) for entry in json.loads(results_path.read_text())["cases"]] if results_path.exists() else []
    if args.write_docs:
        results = Results("tokenizer_train", args.work, known)
        return results.write_docs("Training a vocabulary", INTRO, "python3 benches/peers/tokenizer_train.py")
    python = venv(args.work / "tokenizer-venv", [f"{name}=={version}" for name, version in PACKAGES.items()])
    if not args.files:
        fail("name the texts")
    files = [beginning(args.files, args.bytes, args.work)] if args.bytes else args.files
    if args.prepare:
        return None
    size = sum(file.stat().st_size for file in files)
    entries = args.vocab_size
    group = f"{size / 1e6:.0f} MB, {entries:,} entries, {THREADS} threads"
    beside = " and ".join(name for name in args.only if name != OURS)
    # 14 times tokenizers, 1.5 times gigatoken.
    target = 1.5 if "gigatoken" in args.only else 14 if "tokenizers" in args.only else None
    time_case = Case(f"train/{size}/{entries}/{beside}", group, f"time, beside {beside}", "seconds", target, lower_is_better=True)
    peak_case = Case(f"peak/{size}/{entries}/{beside}", f"{group}: peak memory", f"beside {beside}", "MB", lower_is_better=True)
    cases = list({case.key: case for case in [*known, time_case, peak_case]}.values())
    results = Results("tokenizer_train", args.work, cases)
    binary = chalot(args.chalot)
    versions = {OURS: chalot_version(args.chalot, binary), **PACKAGES}
    env = {**os.environ, "RAYON_NUM_THREADS": str(THREADS), "TOKENIZERS_PARALLELISM": "true"}
    merges, peaks = {}, {name: [] for name in args.only}

    def train(name):
        out = args.work / f"tokenizer_train.{name}.json"
        if name == OURS:
            seconds, peak = run([binary, "tokenizer", "train", *files, "--vocab-size", entries, "--min-frequency", 1, "--out", out,
                                 "--force", "--threads", THREADS], env)
            made = json.loads(out.read_text())["model"]["merges"]
        else:
            _, peak = run([python, "-c", WORKER, name, entries, out, *files], env)
            answer = json.loads(out.read_text())
            seconds, made = answer["seconds"], answer["merges"]
        if name != "gigatoken":
            made = [[to_hex(a), to_hex(b)] for a, b in made]
        if merges.setdefault(name, made) != made:
            fail(f"{name}: two runs gave different merges")
        peaks[name].append(peak)
        return seconds

    programs = {name: (lambda name=name: train(name)) for name in args.only}
    of_these = {name: versions[name] for name in args.only}
    results.add(time_case, programs, args.rounds, of_these, args.more)
    # The peaks came with the times.
    taken = {name: iter(values) for name, values in peaks.items()}
    results.add(peak_case, {name: (lambda name=name: next(taken[name])) for name in args.only}, args.rounds, of_these, args.more)
    compared = {name: made for name, made in merges.items() if name != "rustbpe"}
    for name, made in compared.items():
        # gigatoken has been seen to make one merge at another turn: still the same work.
        same = sorted(made) == sorted(compared[OURS]) if name == "gigatoken" else made == compared[OURS]
        if not same:
            fail(f"{name}: other merges than {OURS}: the times compare different work")
    say(f"equal merges ({len(compared[OURS])}): {', '.join(compared)}")
    print(results.text())
    return None


if __name__ == "__main__":
    main()
