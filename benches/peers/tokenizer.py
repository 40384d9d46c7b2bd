"""Encoding text: chalot beside gigatoken, Hugging Face `tokenizers`, tiktoken and rustbpe.

usage: tokenizer.py --prepare                     environment, vocabularies and texts; measures nothing
       tokenizer.py [--only WORDS] [--rounds N]   compares the ids, measures, prints the tables
       tokenizer.py --write-docs                  docs/BENCHMARKS.md, docs/benchmarks/tokenizer.{svg,json} from the samples

`--only english+gpt2,code` measures the cases that have the words english and gpt2, or code, in their key (`--list` shows the keys).
Run it on an otherwise idle machine, after `cargo build --release`. Vocabularies come from where tools/testdata/fetch.sh puts them
(`--data`, by default target/test-data), books from the folder given with --assets.
"""
import argparse
import json
import lzma
import os
import random
import subprocess
import sys
from array import array
from pathlib import Path

from common import OURS, ROOT, WORK, Case, Measured, Results, chalot, chalot_version, fail, run_json, say, venv

HERE = Path(__file__).resolve().parent
PACKAGES = ["gigatoken==0.10.0", "tokenizers==0.23.3", "tiktoken==0.14.0", "rustbpe==0.1.0", "numpy==2.4.6"]
VOCABULARIES = {"gpt2": "GPT-2", "llama3": "Llama 3"}
TEXTS = {"english": "English (children's books)", "code": "code (Python's library)", "cjk": "CJK (made up)"}
# Ours, in the place of a peer: on one thread, and with ordinary text.
ONE_THREAD, ORDINARY = "chalot, one thread", "chalot, text"
# Two CPUs may be the halves of one core, or run beside a neighbour: what products of integers gain from the second one tells.
# Where they gain less than this, a sample of two threads is taken again, this often.
TWO_CORES, PATIENCE = 1.9, 10
# Ten million bytes of one kind.
ENDLESS = {
    "a": "`a`", "digits": "`0123456789` again and again", "random-digits": "random digits", "random-letters": "random letters",
    "spaces": "spaces", "newlines": "newlines", "emoji": "U+1F600", "marks": "`e` and combining marks",
}
# Of what `chalot bench tokenizer` reports.
WARM, COLD = "encode_mb_per_second", "cold_mb_per_second"
BESIDE = {"documents_beside_one_thread": "documents of 64 KiB", "beside_one_thread": "one text"}
PEERS = ["gigatoken", "gigatoken batch", "tokenizers", "tiktoken"]
# The slow ones get this much of a text.
SLOW_BYTES = 1_000_000

INTRO = """
[benches/peers/tokenizer.py](../benches/peers/tokenizer.py) encodes the same bytes with the same vocabulary in turn, after it has
compared the ids. *cold*: the first text that a program encodes after it has read the vocabulary; *warm*: the same text again, the
median of five. `gigatoken` is `Tokenizer.encode`, `gigatoken batch` is `encode_batch` of one document without threads (or of many with two);
`tokenizers` and `tiktoken` get the first megabyte. chalot is `chalot bench tokenizer`. Time is what passes on the clock, in MB of text a second.
Two threads beside one: both in turn in one process, 25 times, and plain products of integers on one and two threads beside them in each
round: two CPUs may be the halves of one core, for a second or for minutes, which the products show. A sample is the median of the half of
the rounds in which they gain most, and is taken again where that is less than 1.9 times; what they gained, over two, is the share of two cores.
The ratio is the median of samples, not of the speeds, as this machine changes its speed between them.
`rustbpe` has no encoder of its own that takes a foreign vocabulary: it is measured where vocabularies are trained.
"""


def texts(folder, assets):
    """The texts as files, made where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyz"
    size = 10_000_000

    def english():
        with lzma.open(assets / "text" / "children_pre1929.txt.xz", "rb") as file:
            return b"\n".join(line for line in file.read().split(b"\n") if line != b"<|endoftext|>")

    def code():
        parts, total = [], 0
        for path in sorted(Path(os.__file__).parent.rglob("*.py")):
            if "site-packages" not in path.parts and total < 20_000_000:
                parts.append(path.read_bytes())
                total += len(parts[-1])
        return b"\n".join(parts).decode("utf-8", "ignore").encode()

    def cjk():
        # Words of one to four common characters, as often as 1 / n, in sentences.
        words = ["".join(chr(0x4E00 + int(3000 ** rng.random()) * 6) for _ in range(rng.randint(1, 4))) for _ in range(20_000)]
        weights = [1 / (n + 1) for n in range(len(words))]
        return "".join(word + ("。" if rng.random() < 0.08 else "，" if rng.random() < 0.1 else "\n" if rng.random() < 0.01 else "")
                       for word in rng.choices(words, weights, k=1_400_000)).encode()

    makers = {
        "english": english, "code": code, "cjk": cjk,
        "a": lambda: b"a" * size, "digits": lambda: b"0123456789" * (size // 10),
        "random-digits": lambda: bytes(rng.choices(b"0123456789", k=size)),
        "random-letters": lambda: bytes(rng.choices(letters.encode(), k=size)),
        "spaces": lambda: b" " * size, "newlines": lambda: b"\n" * size, "emoji": lambda: "\U0001F600".encode() * (size // 4),
        "marks": lambda: "".join("e" + "".join(rng.choices("\u0301\u0308\u0323\u0330", k=8)) for _ in range(size // 17)).encode(),
    }
    paths = {}
    for name, make in makers.items():
        paths[name] = folder / f"{name}.txt"
        if not paths[name].exists():
            if name == "english" and not (assets / "text").exists():
                fail(f"{assets}: no books there; name the folder with --assets")
            say(f"making {paths[name].name}")
            paths[name].write_bytes(make())
    return paths


def sample(python, peer, vocab, text, threads):
    """{"cold": MB/s, "warm": MB/s} of a peer, in a process of its own."""
    command = [python, HERE / "tokenizer_worker.py", peer, vocab, text, threads, SLOW_BYTES]
    return run_json(command, {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false"})


def ours(binary, vocab, text, threads, rounds=5):
    return run_json([binary, "bench", "tokenizer", "--vocab", vocab, "--text", text, "--threads", threads, "--rounds", rounds,
                     "--train-bytes", 0, "--linear-bytes", 0, "--json"])


def beside_one(binary, vocab, text, what):
    """Functions that take the samples of two threads and of one: one process does both in turn, whichever is asked first."""
    pending = {}

    def measure():
        for _ in range(PATIENCE):
            beside = ours(binary, vocab, text, 2, rounds=25)[what]
            if (beside["gain_of_products"] or 2) >= TWO_CORES:
                break
        share = beside["gain_of_products"] and beside["gain_of_products"] / 2
        return {OURS: Measured(beside["mb_per_second"], share), ONE_THREAD: beside["one_thread_mb_per_second"]}

    def take(program):
        if program not in pending:
            pending.update(measure())
        return pending.pop(program)

    return {program: lambda program=program: take(program) for program in (ONE_THREAD, OURS)}


def check(python, binary, peers, vocab, text):
    """Ends the script unless all programs give the same ids."""
    with open(text, "rb") as file:
        head = file.read(SLOW_BYTES).decode("utf-8", "ignore").encode()
    short = text.with_suffix(".head")
    short.write_bytes(head)
    words = subprocess.run([binary, "tokenizer", "encode", "--vocab", vocab, "-"], stdin=open(short, "rb"), capture_output=True, check=True)
    expected = array("I", map(int, words.stdout.split()))
    for peer in peers:
        command = [python, HERE / "tokenizer_worker.py", "--ids", peer, vocab, short]
        found = array("I")
        found.frombytes(subprocess.run(command, capture_output=True, check=True).stdout)
        if found != expected:
            at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
            fail(f"{vocab.stem}, {text.stem}: {peer} has other ids than chalot, first at {at}: {found[at:at + 5]}, {expected[at:at + 5]}")
    say(f"{vocab.stem}, {text.stem}: {len(expected)} equal ids")


def cases():
    """{key: (case, vocabulary, text, threads, cold or warm, peers)}"""
    found = {}

    def add(key, group, title, vocab, text, threads, kind, peers, target, yardstick=None):
        case = Case(key, group=group, title=title, unit="MB/s", target=target, yardstick=yardstick, paired=yardstick is not None)
        found[key] = (case, vocab, text, threads, kind, peers)

    for vocab, name in VOCABULARIES.items():
        for text, told in TEXTS.items():
            for kind in ["warm", "cold"]:
                peers = PEERS if (vocab, kind) == ("gpt2", "warm") else PEERS[:2]
                add(f"{text}/{vocab}/{kind}/1t", f"{told}, one thread", f"{name}, {kind}", vocab, text, 1, kind, peers,
                    1 if text == "english" else None)
        for text in ["code", "cjk"]:
            add(f"slow/{text}/{vocab}/1t", "Beside `tokenizers`, one thread", f"{TEXTS[text]}, {name}, warm", vocab, text, 1, "warm",
                ["tokenizers"], 20)
        add(f"english/{vocab}/warm/2t", "English, two threads", f"{name}, warm", vocab, "english", 2, "warm", ["gigatoken batch"], None)
        for what, told in BESIDE.items():
            add(f"threads/{what}/{vocab}", "English, two threads beside one", f"{name}, {told}, warm", vocab, "english", 2, "warm",
                [ONE_THREAD], 1.8, "two cores")
        for text, told in ENDLESS.items():
            add(f"endless/{text}/{vocab}/warm/1t", f"Ten million bytes of one kind, {name}, one thread", told, vocab, text, 1, "warm",
                [ORDINARY], 0.5)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--write-docs", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CHALOT_TEST_DATA") or ROOT / "target" / "test-data"))
    parser.add_argument("--assets", type=Path, default=ROOT / ".." / "shared" / "assets")
    parser.add_argument("--chalot", help="the command to measure")
    args = parser.parse_args()
    table = cases()
    if args.list:
        print("\n".join(table))
        return
    results = Results("tokenizer", args.work, [entry[0] for entry in table.values()])
    if args.write_docs:
        results.write_docs(title="Encoding text", intro=INTRO, command="python3 benches/peers/tokenizer.py")
        return
    python = venv(args.work / "tokenizer-venv", PACKAGES)
    vocabularies = {name: args.data / "tokenizers" / f"{name}.json" for name in VOCABULARIES}
    if not all(path.exists() for path in vocabularies.values()):
        fail(f"no vocabularies in {args.data}: run tools/testdata/fetch.sh, or name the folder with --data")
    paths = texts(args.work / "tokenizer-texts", args.assets)
    if args.prepare:
        return
    binary = chalot(args.chalot)
    versions = dict(package.split("==") for package in PACKAGES)
    versions = {OURS: chalot_version(args.chalot, binary), **{peer: versions[peer.split()[0]] for peer in PEERS}}
    versions |= {ONE_THREAD: versions[OURS], ORDINARY: versions[OURS]}
    wanted = [words.split("+") for words in args.only.split(",")]
    checked = set()
    for key, (case, vocab, text, threads, kind, peers) in table.items():
        if not any(all(word in key for word in words) for words in wanted):
            continue
        # An endless word takes others minutes: what is compared there is our own speed with ordinary text.
        if (vocab, text) not in checked and text not in ENDLESS:
            wanted_ids = [p for p in PEERS if p != "tiktoken" or vocab == "gpt2"]
            check(python, binary, wanted_ids, vocabularies[vocab], paths[text])
            checked.add((vocab, text))

        def take(program):
            if program in (OURS, ORDINARY):
                what = text if program == OURS else "english"
                return lambda: ours(binary, vocabularies[vocab], paths[what], threads)[WARM if kind == "warm" else COLD]
            return lambda: sample(python, program, vocabularies[vocab], paths[text], threads)[kind]

        if ONE_THREAD in peers:
            programs = beside_one(binary, vocabularies[vocab], paths[text], key.split("/")[1])
        else:
            programs = {program: take(program) for program in [*peers, OURS]}
        results.add(case, programs, args.rounds, {name: versions[name] for name in programs})
    print(results.text())


if __name__ == "__main__":
    main()
