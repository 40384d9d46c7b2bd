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


def crc(ids):
    values = array.array("I", ids)
    if sys.byteorder != "little":
        values.byteswap()
    return zlib.crc32(values.tobytes())


def records_of(path):
    """The texts of a file of records."""
    with open(path, "rb") as file:
        while head := file.read(4):
            yield file.read(struct.unpack("<I", head)[0]).decode("utf-8")


# So many records at a time: millions of results at once would not fit in memory.
BATCH = 20_000


def main():
    from tokenizers import Tokenizer

    json_path, records_path, out_path = sys.argv[1:]
    tokenizer = Tokenizer.from_file(json_path)
    texts = list(records_of(records_path))
    # The names make a difference only where they occur.
    names = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    everything = "\n".join(texts)
    common = [name for name in names if name in everything]

    def encode(texts, as_text):
        tokenizer.encode_special_tokens = as_text
        ids = []
        for start in range(0, len(texts), 2000):
            batch = tokenizer.encode_batch_fast(texts[start:start + 2000], add_special_tokens=False)
            ids += [encoding.ids for encoding in batch]
        return ids

    total = 0
    with open(out_path + ".part", "wb") as file:
        for start in range(0, len(texts), BATCH):
            batch = texts[start:start + BATCH]
            parsed = encode(batch, False)
            affected = [at for at, text in enumerate(batch) if "<" in text and any(name in text for name in common)]
            as_text = list(parsed)
            for at, ids in zip(affected, encode([batch[at] for at in affected], True)):
                as_text[at] = ids
            decoded = tokenizer.decode_batch(parsed, skip_special_tokens=False)
            for p, t, d in zip(parsed, as_text, decoded):
                file.write(struct.pack("<4I", len(p), crc(p), crc(t), zlib.crc32(d.encode("utf-8"))))
            total += sum(map(len, parsed))
    os.replace(out_path + ".part", out_path)
    print(f"{os.path.basename(out_path)}: {len(texts)} records, {total} ids", file=sys.stderr)


if __name__ == "__main__":
    main()
