"""Writes a GGUF file of random weights; runs in the environment of the peer (needs `gguf`, `numpy`).

Weights are random bytes in the quantized types' own layout, with scales that keep a signal's size from layer to layer. The shape
is BitNet b1.58 2B-4T's: 30 layers, 2560 wide, feed-forward 6912, 20 query heads on 5, 128 each, vocabulary 128256, head tied.

usage: synthetic_gguf.py OUT ARCHITECTURE TYPE HEAD     e.g. tq2_0.gguf llama TQ2_0 Q6_K
"""
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, GGMLQuantizationType as Type
from gguf.constants import GGML_QUANT_SIZES

LAYERS, HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 30, 2560, 6912, 20, 5, 128, 128256
# Where a block's f16 scale is, and the root mean square of its codes.
SCALE = {Type.TQ2_0: (64, 0.71), Type.TQ1_0: (52, 0.82), Type.Q4_0: (0, 4.6), Type.Q8_0: (0, 73.9), Type.Q6_K: (208, 18.5 * 4)}


def matrix(rng, kind, rows, cols):
    """Random weights as [rows][bytes of a row]."""
    weights, size = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows * cols // weights, size), dtype=np.uint8)
    if kind == Type.TQ2_0:  # a code is 0, 1 or 2: 3 becomes 1
        blocks &= ~((blocks & (blocks >> 1) & 0x55) << 1)
    if kind == Type.Q6_K:  # the 8-bit scales of 16 weights each
        blocks[:, 192:208] = 4
    at, spread = SCALE[kind]
    scale = np.float16(1 / (spread * cols**0.5))
    blocks[:, at:at + 2] = np.frombuffer(scale.tobytes(), np.uint8)
    return blocks.reshape(rows, -1)


def write(path, architecture, kind, head):
    q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    matrices, norms = {"token_embd": (head, VOCAB, HIDDEN)}, {"output_norm": HIDDEN}
    for layer in (f"blk.{i}." for i in range(LAYERS)):
        sizes = {"attn_q": (q, HIDDEN), "attn_k": (kv, HIDDEN), "attn_v": (kv, HIDDEN), "attn_output": (HIDDEN, q),
                 "ffn_gate": (FFN, HIDDEN), "ffn_up": (FFN, HIDDEN), "ffn_down": (HIDDEN, FFN)}
        matrices |= {layer + name: (kind, *size) for name, size in sizes.items()}
        norms |= {layer + "attn_norm": HIDDEN, layer + "ffn_norm": HIDDEN}
        if architecture == "bitnet":
            norms |= {layer + "attn_sub_norm": q, layer + "ffn_sub_norm": FFN}

    writer = GGUFWriter(path, architecture)
    writer.add_name(f"random {kind.name}, {architecture}")
    writer.add_context_length(4096)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(5e5)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCAB)
    writer.add_tokenizer_model("none")
    for name, size in norms.items():
        writer.add_tensor_info(name + ".weight", (size,), np.dtype(np.float32), 4 * size)
    for name, (of, rows, cols) in matrices.items():
        weights, size = GGML_QUANT_SIZES[of]
        row = cols // weights * size
        writer.add_tensor_info(name + ".weight", (rows, row), np.dtype(np.uint8), rows * row, raw_dtype=of)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for size in norms.values():
        writer.write_tensor_data(np.ones(size, np.float32))
    rng = np.random.default_rng(1)
    for of, rows, cols in matrices.values():
        writer.write_tensor_data(matrix(rng, of, rows, cols))
    writer.close()


if __name__ == "__main__":
    out, architecture, kind, head = sys.argv[1:]
    # Half a file must not look like a whole one.
    half = Path(out + ".half")
    write(half, architecture, Type[kind], Type[head])
    half.rename(out)
