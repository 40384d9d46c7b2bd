#!/usr/bin/env python3
"""Writes the golden file of tokenizer.json's features: what Hugging Face `tokenizers` makes of small tokenizers.

usage: tokenizer_features.py OUT     (crates/tokenizer/tests/golden/features.json; made with tokenizers 0.23.3)

Two small models (byte-level, and characters with byte tokens) stand once; each case puts other normalizers,
pre-tokenizers, decoders, added tokens or options around one of them. For each text a case has the ids with special
tokens parsed, the ids with them as text where these differ, and the decoded text where it is compared.
"""

import copy
import json
import sys

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

TRAINING = """
The tokenizer cuts the text into pieces, and then it merges the pieces of each piece, the best pair first. The text
is theirs, isn't it? they're testing the tests: 1234 tests in 2024, 99 of them the best. It's the rest that they've
tested first; we'll test the others, thirty-three 33 times 3. CamelCase and snake_case, the naive and the naïve café,
e.g. naïve cafés, cafés, and über-naïve ones. 日本 日本語 日本語の 日本 語の text. aaaa aaaa aaaaaaaa
""" * 3

TEXTS = [
    "", " ", "  ", "the", " the", "the the", "The tests, they've tested: isn't it?", "tested  twice   thrice\n\n the end \n",
    "  leading and trailing  ", "\t\ttabs\nlines\r\n", "12345 and 33,333.33", "x²+½=٣٤ Ⅷ", "naïve café nai\u0308ve cafe\u0301", "ﬁne ǅ ſ Ω Å", "日本語の text 日本",
    "a<s>b</s>c", "<s>", " <s> ", "the <s>  the</s>\n\n the", "the<mask>the", "the  <mask>  the", "the\t\n<mask>", "<mask><mask>", "<mask> <s> <mask>",
    "<w>", "a<w>", "<w>b", "a <w> b", "é<w>!", "_<w>", "<think>the</think>", "TheTHEthe THE <Name> <name>", "<s", "s>", "<s><s", "aaaaaaaaa", "ΑΣ ΣΑΣ", "don't'S 'RE",
    "▁the▁", "▁", "a▁b c", "<0x41>", "\U0001F600 ok", "a\x00b\x7f", "-- ... !? (a,b)", "snake_case CamelCase", "\u3000wide\u00a0space\u2003", "日\u0301", "QXZ", "QZ qz the QXZ",
]


def train(pre_tokenizer, alphabet, specials=()):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=len(alphabet) + 90, initial_alphabet=alphabet, special_tokens=list(specials), show_progress=False)
    tokenizer.train_from_iterator(TRAINING.splitlines(), trainer)
    return json.loads(tokenizer.to_str())["model"]


def added(content, **flags):
    token = {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    token.update(flags)
    return token


def regex(text):
    return {"Regex": text}


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def sequence(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


def byte_level(add_prefix_space=False, use_regex=True):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


BYTE_DECODER = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
LLAMA_DECODER = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
REPLACE_SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
TOKENS = [added("<s>"), added("</s>"), added("<think>", special=False), added("</think>", special=False)]
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def cases():
    def case(name, model="bytes", options=None, **around):
        base = {"added_tokens": TOKENS, "normalizer": None, "pre_tokenizer": byte_level(), "post_processor": None, "decoder": BYTE_DECODER}
        if model != "bytes":
            base.update(pre_tokenizer=None, decoder={"type": "Sequence", "decoders": LLAMA_DECODER})
        base.update(around)
        return {"name": name, "model": model, "options": options or {}, "around": base}

    yield case("plain")
    yield case("prefix space", pre_tokenizer=byte_level(add_prefix_space=True))
    yield case("no regex", pre_tokenizer=byte_level(use_regex=False))
    for flags in ({"lstrip": True}, {"rstrip": True}, {"lstrip": True, "rstrip": True}, {"lstrip": True, "rstrip": True, "special": False}):
        yield case(f"strip {flags}", added_tokens=TOKENS + [added("<mask>", **flags)])
    yield case("single word", added_tokens=TOKENS + [added("<w>", single_word=True), added("the", single_word=True)])
    yield case("longest", added_tokens=[added("<s>"), added("<s><s"), added("s>"), added("<")])
    for normalizer in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
        yield case(f"normalizer {normalizer}", normalizer={"type": normalizer}, added_tokens=TOKENS + [added("<Name>", normalized=True), added("THE", normalized=True, special=False)])
    for left, right in ((True, True), (True, False), (False, True)):
        yield case(f"strip {left} {right}", normalizer={"type": "Strip", "strip_left": left, "strip_right": right})
    yield case("replace", normalizer={"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": regex(r"\s+"), "content": " "}, {"type": "Replace", "pattern": {"String": "the"}, "content": "THE"}, {"type": "Lowercase"}]})
    yield case("prepend", normalizer={"type": "Prepend", "prepend": "> "})
    for behavior in BEHAVIORS:
        for invert in (False, True):
            yield case(f"split regex {behavior} {invert}", pre_tokenizer=sequence(split(regex("[aeiou]+|[0-9]"), behavior, invert), byte_level(use_regex=False)))
            yield case(f"split string {behavior} {invert}", pre_tokenizer=sequence(split({"String": "te"}, behavior, invert), byte_level(use_regex=False)))
            yield case(f"split gpt2 {behavior} {invert}", pre_tokenizer=sequence(split(regex(GPT2), behavior, invert), byte_level(use_regex=False)))
        yield case(f"punctuation {behavior}", pre_tokenizer=sequence({"type": "Punctuation", "behavior": behavior}, byte_level()))
    for individual in (False, True):
        yield case(f"digits {individual}", pre_tokenizer=sequence({"type": "Digits", "individual_digits": individual}, byte_level()))
        yield case(f"digits after {individual}", pre_tokenizer=sequence({"type": "Punctuation", "behavior": "Contiguous"}, byte_level(), {"type": "Digits", "individual_digits": individual}, split(regex("[0-9][0-9][0-9]"))))
    yield case("white space", pre_tokenizer=sequence({"type": "WhitespaceSplit"}, byte_level(use_regex=False)))
    yield case("ignore merges", options={"ignore_merges": True})

    yield case("llama", model="chars", normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, REPLACE_SPACE]}, decoder={"type": "Sequence", "decoders": LLAMA_DECODER + [STRIP]})
    yield case("gemma", model="chars", normalizer=REPLACE_SPACE, pre_tokenizer=split({"String": " "}, "MergedWithPrevious"))
    for scheme in ("always", "first", "never"):
        for cut in (True, False):
            metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}
            decoders = LLAMA_DECODER + ([STRIP] if scheme != "never" else [])
            yield case(f"metaspace {scheme} {cut}", model="chars", pre_tokenizer=metaspace, decoder={"type": "Sequence", "decoders": decoders})
    for fuse in (False, True):
        yield case(f"unknown, fused {fuse}", model="chars", options={"byte_fallback": False, "fuse_unk": fuse, "unk_token": "<unk>"}, normalizer=REPLACE_SPACE)
        yield case(f"unknown beside bytes, fused {fuse}", model="few bytes", options={"fuse_unk": fuse, "unk_token": "<unk>"}, normalizer=REPLACE_SPACE)
    yield case("unknown vanish", model="chars", options={"byte_fallback": False}, normalizer=REPLACE_SPACE)
    yield case("missing bytes", model="ascii", options={})
    yield case("missing bytes unknown", model="ascii", options={"unk_token": "!"})
    yield case("missing bytes unknown fused", model="ascii", options={"unk_token": "!", "fuse_unk": True})


def build(model_table, case):
    model = copy.deepcopy(model_table[case["model"]])
    model.update(case["options"])
    file = {"version": "1.0", "truncation": None, "padding": None, **copy.deepcopy(case["around"]), "model": model}
    first = len(model["vocab"])
    for offset, token in enumerate([t for t in file["added_tokens"] if t["content"] not in model["vocab"]]):
        token["id"] = first + offset
    for token in file["added_tokens"]:
        token.setdefault("id", model["vocab"].get(token["content"]))
    return file


def main():
    byte_model = train(pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.ByteLevel.alphabet())
    char_model = train(pre_tokenizers.Metaspace(), sorted(set("".join(TRAINING.split()))), ["<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)])
    char_model.update(byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    # Without some of its bytes: Q is spelled in bytes, the emoji and X are unknown.
    few = copy.deepcopy(char_model)
    few["vocab"] = {text: id for text, id in few["vocab"].items() if text not in ("<0xF0>", "<0x58>")}
    few["vocab"] = {text: number for number, text in enumerate(few["vocab"])}
    ascii_model = copy.deepcopy(byte_model)
    kept = [text for text in ascii_model["vocab"] if all(ord(c) < 0x80 or c in "ĠĊ" for c in text)]
    ascii_model["vocab"] = {text: number for number, text in enumerate(kept)}
    ascii_model["merges"] = [m for m in ascii_model["merges"] if all(part in ascii_model["vocab"] for part in [*m, "".join(m)])]
    table = {"bytes": byte_model, "chars": char_model, "few bytes": few, "ascii": ascii_model}

    out_cases = []
    for case in cases():
        file = build(table, case)
        tokenizer = Tokenizer.from_str(json.dumps(file))
        results = []
        for text in TEXTS:
            tokenizer.encode_special_tokens = False
            parsed = tokenizer.encode(text, add_special_tokens=False).ids
            tokenizer.encode_special_tokens = True
            as_text = tokenizer.encode(text, add_special_tokens=False).ids
            # A token looked for in normalized form decodes to that form here, to its own text in Chalot.
            decoded = tokenizer.decode(parsed, skip_special_tokens=False) if case["name"] != "normalizer Lowercase" else None
            results.append([parsed, as_text if as_text != parsed else None, decoded])
        file.pop("model")
        out_cases.append({"name": case["name"], "model": case["model"], "options": case["options"], "around": file, "results": results})
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        out.write('{"models": ' + json.dumps(table, ensure_ascii=False, separators=(",", ":")) + ',\n"texts": ' + json.dumps(TEXTS) + ',\n"cases": [\n')
        out.write(",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in out_cases) + "\n]}\n")


main()
