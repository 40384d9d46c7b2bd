"""One program encodes one text: the process that tokenizer.py starts for each sample.

usage: tokenizer_worker.py PEER VOCABULARY TEXT THREADS SLOW_BYTES     prints {"cold": MB/s, "warm": MB/s}
       tokenizer_worker.py --ids PEER VOCABULARY TEXT                  writes the ids, u32 little-endian
"""
import json
import sys
import time
from array import array
from statistics import median

ROUNDS = 5


def documents(data, size=1 << 16):
    """The text in pieces that end with a line."""
    at, pieces = 0, []
    while at < len(data):
        end = data.find(b"\n", min(at + size, len(data)))
        end = len(data) if end < 0 else end + 1
        pieces.append(data[at:end])
        at = end
    return pieces


def encoder(peer, vocabulary, threads):
    """A function from bytes to ids (an array, a list, or a list of them)."""
    if peer.startswith("gigatoken"):
        from gigatoken import Tokenizer
        with open(vocabulary, "rb") as file:
            tokenizer = Tokenizer.from_json(file.read())
        if peer == "gigatoken":
            return tokenizer.encode
        if threads > 1:
            return lambda data: tokenizer.encode_batch(documents(data), parallel=True)
        return lambda data: tokenizer.encode_batch([data], parallel=False)
    if peer == "tokenizers":
        from tokenizers import Tokenizer
        tokenizer = Tokenizer.from_file(vocabulary)
        tokenizer.encode_special_tokens = True
        return lambda data: tokenizer.encode(data.decode(), add_special_tokens=False).ids
    if peer == "tiktoken":
        import tiktoken
        with open(vocabulary, encoding="utf-8") as file:
            model = json.load(file)["model"]
        # The characters that stand for bytes in such files.
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        rest = [byte for byte in range(256) if byte not in printable]
        byte_of = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(rest)}
        in_bytes = lambda token: bytes(byte_of[c] for c in token)
        merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        formed = {c for c in byte_of} | {left + right for left, right in merges}
        ranks = {in_bytes(token): id for token, id in model["vocab"].items() if token in formed}
        pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
        encoding = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        return lambda data: encoding.encode_ordinary(data.decode())
    sys.exit(f"{peer}: unknown")


def main():
    if sys.argv[1] == "--ids":
        peer, vocabulary, text = sys.argv[2:]
        with open(text, "rb") as file:
            ids = encoder(peer, vocabulary, 1)(file.read())
        ids = ids[0] if peer == "gigatoken batch" else ids
        sys.stdout.buffer.write(array("I", [int(id) for id in ids]).tobytes())
        return
    peer, vocabulary, text, threads, slow_bytes = sys.argv[1:]
    with open(text, "rb") as file:
        data = file.read()
    if not peer.startswith("gigatoken"):
        data = data[:int(slow_bytes)].decode("utf-8", "ignore").encode()
    encode = encoder(peer, vocabulary, int(threads))
    times = []
    # The slow ones remember next to nothing: two rounds tell as much.
    for _ in range(1 + (ROUNDS if peer.startswith("gigatoken") else 1)):
        start = time.perf_counter()
        encode(data)
        times.append(time.perf_counter() - start)
    speed = lambda seconds: len(data) / 1e6 / seconds
    print(json.dumps({"cold": speed(times[0]), "warm": speed(median(times[1:]))}))


main()
