#!/usr/bin/env python3
"""Writes texts for the large comparison with Hugging Face `tokenizers` and `tiktoken`: records as mixed_text.py writes them.

usage: exactness.py text OUT ASSETS CODE_FOLDER...     100 MB: books, Wikipedia, code, CJK, emoji, control characters, .inp files
       exactness.py random OUT SEED COUNT              so many random strings that favour the corners of the patterns
"""

import importlib.util
import lzma
import os
import random
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
spec = importlib.util.spec_from_file_location("mixed_text", os.path.join(HERE, "mixed_text.py"))
mixed = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mixed)

CODE = (".rs", ".py", ".c", ".h", ".cpp", ".js", ".ts", ".toml", ".md", ".json", ".yml", ".txt", ".html", ".css", ".sh", ".pyi", ".go")


def write(out, records):
    count = size = 0
    with open(out + ".part", "wb") as file:
        for record in records:
            data = record.encode("utf-8")
            file.write(struct.pack("<I", len(data)) + data)
            count, size = count + 1, size + len(data)
    os.replace(out + ".part", out)
    print(f"exactness.py: {os.path.basename(out)}: {count} records, {size} bytes", file=sys.stderr)


def code(folders, budget):
    total = 0
    for folder in folders:
        for path, names, files in os.walk(folder):
            names.sort()
            for name in sorted(files):
                if not name.endswith(CODE) or os.path.getsize(os.path.join(path, name)) > 400_000:
                    continue
                with open(os.path.join(path, name), encoding="utf-8", errors="ignore", newline="") as file:
                    for piece in mixed.pieces_of(file.read(), 400_000):
                        total += len(piece.encode())
                        yield piece
                if total > budget:
                    return


def texts(assets, folders):
    for name in ("plain_books_pre1929.txt.xz", "children_pre1929.txt.xz"):
        with lzma.open(os.path.join(assets, "text", name), "rt", encoding="utf-8", newline="") as file:
            book = file.read(26_000_000)
        yield from mixed.pieces_of(book, 26_000_000)
    for name in ("wiki.test.raw", "tinyshakespeare.txt"):
        with open(os.path.join(assets, "text", name), encoding="utf-8", newline="") as file:
            yield from mixed.pieces_of(file.read(), 2_000_000)
    tokenizers = os.path.join(assets, "tokenizers")
    for name in sorted(os.listdir(tokenizers)):
        if name.endswith(".inp"):
            with open(os.path.join(tokenizers, name), encoding="utf-8", newline="") as file:
                yield from file.read().split("\n__ggml_vocab_test__\n")
    yield from code(folders, 25_000_000)
    yield from mixed.generated(mixed.cjk, 8_000_000, 2, 2000)
    yield from mixed.generated(mixed.script_run, 5_000_000, 1, 500)
    yield from mixed.generated(mixed.accents, 2_000_000, 1, 300)
    yield from mixed.generated(lambda: mixed.pick(mixed.EMOJI) + mixed.pick(["", "", " ", "x"]), 3_000_000, 1, 200)
    yield from mixed.generated(lambda: mixed.pick(mixed.CONTROLS) + mixed.pick(["", "", " ", "x", "12"]), 2_000_000, 1, 200)
    yield from mixed.generated(mixed.any_code_point, 2_000_000, 1, 200)
    yield from mixed.runs()


def strings(count):
    rng = mixed.rng
    corners, controls, emoji = mixed.CORNERS, mixed.CONTROLS, mixed.EMOJI
    for _ in range(count):
        parts = rng.choices(corners, k=1 + int(24 * rng.random() ** 2))
        if rng.random() < 0.2:
            parts[int(rng.random() * len(parts))] = mixed.any_code_point()
        if rng.random() < 0.1:
            parts.append(rng.choice(controls) + rng.choice(emoji))
        # Some long enough that 64 bytes at a time matter.
        if rng.random() < 0.15:
            parts *= 2 + int(4 * rng.random())
        yield "".join(parts)


def main():
    kind, out = sys.argv[1:3]
    if kind == "text":
        mixed.rng = random.Random(0xC4A108)
        write(out, texts(sys.argv[3], sys.argv[4:]))
    else:
        mixed.rng = random.Random(int(sys.argv[3]))
        write(out, strings(int(sys.argv[4])))


if __name__ == "__main__":
    main()
