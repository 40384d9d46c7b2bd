#!/usr/bin/env python3
"""Writes about 10 MB of mixed text for the tokenizer tests, the same bytes every time.

usage: mixed_text.py OUT [ASSETS]

OUT gets records: u32 little-endian length, then so many bytes of UTF-8. Prose comes from ASSETS (books, Wikipedia,
Shakespeare; left out where the folder is missing), everything else is generated: code, CJK, other scripts with composed
and decomposed accents, emoji, control characters, strings that sit on the corners of the pre-tokenizers' patterns,
random code points, long runs, and texts with the names of special tokens.
"""

import lzma
import os
import random
import struct
import sys

rng = random.Random(0xC4A107)


def below(n):
    """A whole number below n; from random() alone, which is the same in every Python."""
    return int(rng.random() * n)


def pick(items):
    return items[below(len(items))]


def size(low, high):
    """A length between low and high, short ones more often."""
    return int(low * (high / low) ** rng.random())


def pieces_of(text, budget):
    """Consecutive stretches of text, of very different lengths, about budget bytes."""
    at, out, total = 0, [], 0
    while at < len(text) and total < budget:
        end = at + size(40, 30_000)
        out.append(text[at:end])
        total += len(out[-1].encode())
        at = end
    return out


def generated(make, budget, low, high):
    """Records that join what make() gives, about budget bytes."""
    out, total = [], 0
    while total < budget:
        out.append("".join(make() for _ in range(size(low, high))))
        total += len(out[-1].encode())
    return out


def prose(assets):
    texts = os.path.join(assets, "text")
    with lzma.open(os.path.join(texts, "children_pre1929.txt.xz"), "rt", encoding="utf-8", newline="") as file:
        book = file.read(12_000_000)
    out = []
    for start in range(0, len(book), len(book) // 6):
        out += pieces_of(book[start:], 400_000)
    for name, budget in (("wiki.test.raw", 1_300_000), ("tinyshakespeare.txt", 700_000)):
        with open(os.path.join(texts, name), encoding="utf-8", newline="") as file:
            out += pieces_of(file.read(), budget)
    return out


WORDS = """the of and index value result self return if else for while in not None True buffer data node left right get
set update parse read write len size count key map list string u8 i32 f64 usize const let mut fn impl struct pub use
std io error Option Some Ok Err match async await class def import from try except lambda yield int void char static
double template typename nullptr SELECT WHERE FROM JOIN id name user_id created_at HTTP GET POST JSON xml div span
href onclick function var export default interface extends""".split()
OPERATORS = "+ - * / % = == != < > <= >= && || ! ~ ^ & | << >> += -= *= -> => :: . , ; : ? @ # $ \\ ... // /* */ <!-- --> {{ }} #[ ]".split()


def code():
    word = pick(WORDS)
    kind = below(12)
    if kind == 0:
        return pick(["\n", "\n\n", "\r\n", "\n\t", "\n\t\t", "\n    ", "\n        ", "\n            ", ";\n", "{\n", "}\n", ":\n"])
    if kind == 1:
        return pick(OPERATORS) + pick(["", " "])
    if kind == 2:
        return pick(["(", ")", "[", "]", "{", "}", "()", "[]", "{}", "('", "')", '("', '")', "`", "```", '"', "'"])
    if kind == 3:
        return pick([str(below(10)), str(below(1000)), str(below(10**9)), hex(below(2**32)), "%.5f" % rng.random(), "1e-5", "1_000_000"])
    if kind == 4:
        return word + "_" + pick(WORDS) + pick(["", str(below(100))])
    if kind == 5:
        return word.capitalize() + pick(WORDS).capitalize()
    if kind == 6:
        return word.upper() + pick([" ", "_"])
    return word + pick([" ", " ", " ", ".", ", ", "(", "  "])


def between(low, high):
    return chr(low + below(high - low + 1))


def cjk():
    kind = below(20)
    if kind < 11:
        return "".join(between(0x4E00, 0x9FFF) if below(8) == 0 else chr(0x4E00 + size(1, 3000)) for _ in range(1 + below(6)))
    if kind < 13:
        return "".join(between(0x3041, 0x3096) for _ in range(1 + below(5)))
    if kind < 14:
        return "".join(between(0x30A1, 0x30FC) for _ in range(1 + below(5)))
    if kind < 16:
        return "".join(between(0xAC00, 0xD7A3) for _ in range(1 + below(4))) + pick(["", " "])
    if kind < 18:
        return pick(["。", "，", "、", "！", "？", "「", "」", "（", "）", "：", "　", "…", "——", "·", "\n", "％", "０", "１２３", "Ａ"])
    if kind < 19:
        return pick(WORDS)
    return str(below(3000))


SCRIPTS = [(0xC0, 0x24F), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x586), (0x590, 0x5F4), (0x600, 0x6FF), (0x710, 0x74A),
           (0x900, 0x97F), (0x980, 0x9FE), (0xA01, 0xA75), (0xB82, 0xBFA), (0xE01, 0xE5B), (0xE81, 0xEDF), (0xF00, 0xFDA),
           (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137C), (0x13A0, 0x13FD), (0x1780, 0x17F9),
           (0x1E00, 0x1EFF), (0x1F00, 0x1FFE), (0x2C00, 0x2C5F), (0xA640, 0xA69F), (0x10400, 0x1044F), (0x1D400, 0x1D7FF)]


def script_run():
    low, high = pick(SCRIPTS)
    return "".join(between(low, high) for _ in range(1 + below(9))) + pick([" ", " ", "", ", ", ". ", "-", "\n"])


MARKS = ["\u0300", "\u0301", "\u0302", "\u0303", "\u0308", "\u030A", "\u0323", "\u0327", "\u0328", "\u0345", "\u0653", "\u093C",
         "\u05B4", "\u3099", "\u309A", "\u20DD", "\u1161", "\u11A8", "\u0F71", "\u0F72", "\u200D", "\u0338"]
BASES = list("aeiouAEIOUcnsyYSZoq ") + ["か", "ハ", "\u1100", "\u1112", "क", "ड", "ا", "ש", "ω", "Ω", "=", "<", "9", "\u212B", "\u2126", "가"]


def accents():
    return pick(BASES) + "".join(pick(MARKS) for _ in range(below(4)))


EMOJI = ["😀", "👍", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷", "🇯🇵", "❤️", "❤", "🤷🏻‍♂️", "🧑‍💻", "🥲", "🫠", "🪿", "☺️", "✅", "①", "Ⓐ", "™", "㍿", "½", "²", "٣", "Ⅷ",
         "→", "≠", "√", "€", "£", "№", "§", "†", "•", "—", "–", "“", "”", "‘", "’", "…", "«", "»"]
CONTROLS = ["\x00", "\x01", "\x07", "\x08", "\x0b", "\x0c", "\x1b[31m", "\x7f", "\x85", "\xa0", "\xad", "\u1680", "\u180e", "\u2003", "\u200b", "\u200e",
            "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff", "\ufffd", "\ufffe", "\U000e0041", "\U0010ffff", "\ue000", "\t", "\r", "\n"]
CORNERS = ["'s", "'S", "'t", "'T", "'re", "'RE", "'Re", "'ve", "'VE", "'m", "'M", "'ll", "'LL", "'lL", "'d", "'D", "'ſ", "'\u212a", "’s", "''", "'", "'x", "'l", "'r", "'v",
           " ", "  ", "   ", "    ", "\t", " \t", "\t ", "\n", "\n\n", "\r\n", "\r", "\n ", " \n", " \n ", "\n\n  ", "\u00a0", "\u3000", "\u2028",
           "1", "12", "123", "1234", "12345678", "3.14", "1,000", "²", "½", "٣٤٥", "१२३४", "Ⅷ", "①②", "１２",
           "a", "A", "ab", "aB", "Ab", "AB", "ABc", "aBC", "éa", "É", "ǅ", "ʰ", "ªº", "日本", "日A", "A日", "a日b", "한글", "\u0301", "e\u0301", "\u0301A", "A\u0301", "क्ष",
           "!", "!!", "?!", "...", "--", "—", "/", "//", "/*", "\n/", "/\n", "!\n", "!\r\n/", ".\n\n", "(", ")", "_", "__init__", "$", "€", "+", "=", "<", ">", "#", "@", "\\", "\"",
           "\u200b", "\u200d", "\ufeff", "\x00", "\x1b", "😀", "👍🏽", "▁", "▁▁", "Ġ", "Ċ", "<0x0A>", "<unk", "the", " the", "The", " world", "ing", "don", "I", "it", "we", "You"]


def corner():
    return pick(CORNERS)


def any_code_point():
    code = below(0x3400) if below(2) else below(0x20000) if below(3) else below(0x110000)
    return chr(code) if not 0xD800 <= code < 0xE000 else " "


SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>", "<|reserved_special_token_3|>", "<s>", "</s>", "<unk>",
            "<think>", "</think>", "<tool_call>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<unused7>", "<|endofprompt|>", "<|fim_prefix|>",
            "<|im_", "end|>", "<", "|>", "<|", "<<s>>", "<|endoftext|"]


def special():
    return pick(SPECIALS) if below(3) == 0 else corner() if below(2) else pick(WORDS) + pick([" ", "\n", ""])


def runs():
    out = []
    for unit in ["a", "A", "ab", "abc", " ", "  x", "\n", "\n ", "\t", "1", "12", "!", "-", "=", "日", "é", "e\u0301", "😀", "'s", "' ", "\u00a0", "the ", "▁", "0\n", "\r\n", "."]:
        for length in (3, 17, 64, 300, 5000):
            out.append(unit * length)
            out.append("x" + unit * length + "y")
    return out


def main():
    out_path, assets = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    records = [""]
    if assets and os.path.isdir(assets):
        records += prose(assets)
    else:
        print("mixed_text.py: no assets: generated text only", file=sys.stderr)
    records += generated(code, 1_300_000, 5, 4000)
    records += generated(cjk, 900_000, 2, 2000)
    records += generated(script_run, 700_000, 1, 500)
    records += generated(accents, 400_000, 1, 300)
    records += generated(lambda: pick(EMOJI) + pick(["", "", " ", "x"]), 300_000, 1, 200)
    records += generated(lambda: pick(CONTROLS) + pick(["", "", " ", "x", "12"]), 300_000, 1, 200)
    records += generated(corner, 1_500_000, 1, 60)
    records += generated(any_code_point, 500_000, 1, 200)
    records += runs()
    records += generated(special, 400_000, 1, 60)
    with open(out_path + ".part", "wb") as file:
        for record in records:
            data = record.encode("utf-8")
            file.write(struct.pack("<I", len(data)) + data)
    os.replace(out_path + ".part", out_path)
    print(f"mixed_text.py: {len(records)} records, {sum(len(r.encode()) for r in records)} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
