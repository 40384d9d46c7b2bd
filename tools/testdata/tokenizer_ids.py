#!/usr/bin/env python3
"""Writes what Hugging Face `tokenizers` makes of each record of the mixed text, in short.

usage: tokenizer_ids.py TOKENIZER_JSON RECORDS OUT

OUT gets, for each record, four u32 little-endian: the number of ids, the CRC-32 of the ids (as u32 little-endian) with the
names of special tokens parsed, the same with them as text, and the CRC-32 of the decoded text.
"""

import array
import os
import struct
import sys
import zlib

from tokenizers import Tokenizer


def crc(ids):
    values = array.array("I", ids)
    if sys.byteorder != "little":
        values.byteswap()
    return zlib.crc32(values.tobytes())


def main():
    json_path, records_path, out_path = sys.argv[1:]
    tokenizer = Tokenizer.from_file(json_path)
    with open(records_path, "rb") as file:
        data = file.read()
    texts, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        texts.append(data[at + 4:at + 4 + length].decode("utf-8"))
        at += 4 + length

    def encode(texts):
        ids = []
        for start in range(0, len(texts), 2000):
            batch = tokenizer.encode_batch_fast(texts[start:start + 2000], add_special_tokens=False)
            ids += [encoding.ids for encoding in batch]
        return ids

    parsed = encode(texts)
    # The names make a difference only where they occur.
    names = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    common = [name for name in names if any(name in text for text in texts[-20000:])]
    affected = [at for at, text in enumerate(texts) if "<" in text and any(name in text for name in common)]
    tokenizer.encode_special_tokens = True
    as_text = list(parsed)
    for at, ids in zip(affected, encode([texts[at] for at in affected])):
        as_text[at] = ids
    tokenizer.encode_special_tokens = False
    decoded = tokenizer.decode_batch(parsed, skip_special_tokens=False)
    with open(out_path + ".part", "wb") as file:
        for p, t, d in zip(parsed, as_text, decoded):
            file.write(struct.pack("<4I", len(p), crc(p), crc(t), zlib.crc32(d.encode("utf-8"))))
    os.replace(out_path + ".part", out_path)
    print(f"{os.path.basename(out_path)}: {len(texts)} records, {sum(map(len, parsed))} ids", file=sys.stderr)


main()
