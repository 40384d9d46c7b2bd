#!/usr/bin/env python3
"""Writes what `tiktoken` makes of each record, in the form of tokenizer_ids.py (the names of special tokens as text in both).

usage: tiktoken_ids.py ENCODING RANKS RECORDS OUT      ENCODING: gpt2, cl100k_base or o200k_base; RANKS: its .tiktoken file
"""

import base64
import os
import re
import struct
import sys
import zlib

import tiktoken
import tiktoken_ext.openai_public as public
from tokenizer_ids import crc, records_of


def main():
    name, ranks_path, records_path, out_path = sys.argv[1:]
    with open(ranks_path, "rb") as file:
        ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in file if line.strip())}
    # The pattern as the package has it, without fetching the ranks that come with it.
    public.load_tiktoken_bpe = lambda *_, **__: ranks
    public.data_gym_to_mergeable_bpe_ranks = lambda *_, **__: ranks
    pattern = getattr(public, name)()["pat_str"]
    encoding = tiktoken.Encoding(name=name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    texts = list(records_of(records_path))
    with open(out_path + ".part", "wb") as file:
        for start in range(0, len(texts), 5000):
            for ids in encoding.encode_ordinary_batch(texts[start:start + 5000], num_threads=2):
                decoded = zlib.crc32(encoding.decode_bytes(ids))
                file.write(struct.pack("<4I", len(ids), crc(ids), crc(ids), decoded))
    os.replace(out_path + ".part", out_path)
    print(f"{os.path.basename(out_path)}: {len(texts)} records", file=sys.stderr)


main()
