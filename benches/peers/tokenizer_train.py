"""Training a vocabulary beside other trainers: the merges compared with `tokenizers`', then time and peak memory.

    cargo build --release && python3 benches/peers/tokenizer_train.py TEXT... [--vocab-size N] [--threads N] [--rounds N]

The texts are UTF-8, documents are separated by <|endoftext|>. Installs gigatoken, tokenizers and rustbpe into an environment in
target/peers/tokenizer-train, trains each once a round in a process of its own, in turn, and prints a table; all samples go to
target/peers/tokenizer_train.json. `tokenizers` (slow) and rustbpe run in the first round only, unless --all-rounds.

Time is that of training alone, from the text in files to the merges, as each library does it: gigatoken and chalot read the files
themselves, `tokenizers` and rustbpe are given the documents as strings, which is not counted. chalot's time is that of the whole
process, the start of the program and the written tokenizer.json included. rustbpe breaks ties in its own way, so its merges differ.
"""
import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "peers"
PACKAGES = {"gigatoken": "0.10.0", "tokenizers": "0.23.3", "rustbpe": "0.1.0"}
SEPARATOR = "<|endoftext|>"

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


def environment(folder):
    """The Python of an environment that has the packages."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making an environment in {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True).stdout
    there = {package["name"]: package["version"] for package in json.loads(listed)}
    missing = [f"{name}=={version}" for name, version in PACKAGES.items() if there.get(name) != version]
    if missing:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *missing], check=True)
    return python


def run(command, env):
    """Runs a command; seconds of the whole process and its peak memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
    stderr = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))}: {stderr.decode(errors='replace')[-2000:]}")
    return seconds, usage.ru_maxrss * 1024 / 1e6


def to_hex(token):
    """A token in the byte alphabet as hexadecimal bytes."""
    return bytes(BYTES[character] for character in token).hex()


def byte_alphabet():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + at): byte for at, byte in enumerate(others)}


BYTES = byte_alphabet()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--vocab-size", type=int, default=32257)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--all-rounds", action="store_true", help="the slow ones too")
    parser.add_argument("--only", nargs="+", default=["chalot", *PACKAGES], help="programs")
    parser.add_argument("--chalot", type=Path, help="the command [default: the release build of this tree]")
    arguments = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    chalot = arguments.chalot or target / "release" / "chalot"
    if not chalot.exists():
        sys.exit(f"{chalot} is not there: run `cargo build --release` first")
    WORK.mkdir(parents=True, exist_ok=True)
    python = environment(WORK / "tokenizer-train")
    size = sum(file.stat().st_size for file in arguments.files)
    env = {**os.environ, "RAYON_NUM_THREADS": str(arguments.threads), "TOKENIZERS_PARALLELISM": "true"}
    samples, merges = {name: [] for name in arguments.only}, {}
    for number in range(arguments.rounds):
        order = arguments.only if number % 2 == 0 else arguments.only[::-1]
        for name in order:
            if number > 0 and name in ("tokenizers", "rustbpe") and not arguments.all_rounds:
                continue
            out = WORK / f"tokenizer_train.{name}.json"
            if name == "chalot":
                command = [chalot, "tokenizer", "train", *arguments.files, "--vocab-size", arguments.vocab_size, "--min-frequency", 1,
                           "--out", out, "--force", "--threads", arguments.threads]
                seconds, peak = run(command, env)
                made = json.loads(out.read_text())["model"]["merges"]
            else:
                _, peak = run([python, "-c", WORKER, name, arguments.vocab_size, out, *arguments.files], env)
                answer = json.loads(out.read_text())
                seconds, made = answer["seconds"], answer["merges"]
            if name != "gigatoken":
                made = [[to_hex(a), to_hex(b)] for a, b in made]
            if merges.setdefault(name, made) != made:
                sys.exit(f"{name}: two runs gave different merges")
            samples[name].append({"seconds": seconds, "peak_mb": peak})
            print(f"round {number + 1}: {name} {seconds:.2f} s, peak {peak:.0f} MB", file=sys.stderr)
    reference = merges.get("tokenizers")
    medians = {name: median(sample["seconds"] for sample in taken) for name, taken in samples.items() if taken}
    ours = medians.get("chalot")
    print(f"{size / 1e6:.1f} MB, {arguments.vocab_size} entries, {arguments.threads} threads, {arguments.rounds} rounds")
    print(f"{'':12}{'seconds':>9}{'MB/s':>8}{'to ours':>9}{'peak MB':>9}  merges")
    rows = {}
    for name, seconds in medians.items():
        made = merges[name]
        if reference is None or not made:
            equal = None
        else:
            equal = made == reference
        said = {None: "not compared", True: f"equal ({len(made)})", False: "DIFFERENT"}[equal]
        peak = max(sample["peak_mb"] for sample in samples[name])
        ratio = f"{seconds / ours:9.2f}" if ours else " " * 9
        print(f"{name:12}{seconds:9.2f}{size / 1e6 / seconds:8.1f}{ratio}{peak:9.0f}  {said}")
        rows[name] = {"seconds": seconds, "ratio": ours and seconds / ours, "peak_mb": peak, "merges_equal": equal}
    result = {"bytes": size, "vocab_size": arguments.vocab_size, "threads": arguments.threads, "versions": PACKAGES,
              "programs": rows, "samples": samples}
    (WORK / "tokenizer_train.json").write_text(json.dumps(result, indent=1) + "\n")
    if any(row["merges_equal"] is False for name, row in rows.items() if name != "rustbpe"):
        sys.exit("the merges differ: the times compare different work")


if __name__ == "__main__":
    main()
