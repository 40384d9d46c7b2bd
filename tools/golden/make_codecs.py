"""Golden values for the GGUF tensor codecs and the GGUF reader, from the `gguf` package.

    python make_codecs.py OUT

OUT/codecs.safetensors     for each type T (f16, bf16, q8_0, q4_0, ..., tq2_0):
    T.bytes   U8 [rows, bytes_per_row]      blocks as they lie in a file
    T.values  F32 [rows, weights_per_row]   what gguf.quants.dequantize makes of them, bit for bit
  and for the types that the package can also write, the same of quantized normal data, with the data itself:
    T.source  F32 [rows, weights_per_row], T.quantized.bytes, T.quantized.values
OUT/written_by_gguf.gguf   a version 3 file with metadata of every value type and tensors F32, F16, Q8_0
OUT/written_by_gguf.json   its listing: {"version", "alignment", "metadata": {key: {"type", "value"}},
                           "tensors": [{"name", "type", "shape", "values"}]}; a shape is in the file's order (the
                           dimension that runs fastest first); values are the first 8 after dequantizing
"""

import argparse
import json
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, GGUFReader, GGUFValueType as V, GGUFWriter, quants
from safetensors.numpy import save_file

# Type: (byte offsets of the f16 scales in a block, number of random blocks). Random bytes test every code; random
# scales would be NaN or infinite now and then, which compare badly.
SCALES = {
    T.Q8_0: ([0], 4),
    T.Q4_0: ([0], 4),
    T.Q4_1: ([0, 2], 4),
    T.Q5_0: ([0], 4),
    T.Q5_1: ([0, 2], 4),
    T.Q4_K: ([0, 2], 2),
    T.Q5_K: ([0, 2], 2),
    T.Q6_K: ([208], 2),
    T.TQ1_0: ([52], 2),
    T.TQ2_0: ([64], 2),
}
WRITABLE = [T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.TQ1_0, T.TQ2_0]


def random_blocks(kind, rng):
    offsets, blocks = SCALES[kind]
    _, size = GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (2, blocks, size), dtype=np.uint8)
    for offset in offsets:
        scales = (rng.standard_normal((2, blocks, 1)) * 0.1).astype("<f2")
        scales[0, 0] = np.float16(6e-8)  # the smallest subnormal: a codec that flushes it is wrong
        raw[..., offset : offset + 2] = scales.view(np.uint8)
    if (
        kind == T.TQ1_0
    ):  # a byte of five digits holds ceil(v * 256 / 243): not every byte occurs, and the rest need not decode alike
        v = rng.integers(0, 243, (2, blocks, 48))
        raw[..., :48] = (v * 256 + 242) // 243
        v = rng.integers(0, 81, (2, blocks, 4)) * 3
        raw[..., 48:52] = (v * 256 + 242) // 243
    if kind == T.TQ2_0:  # the code 3 never occurs in a well-formed file
        codes = rng.integers(0, 3, (2, blocks, 64, 4), dtype=np.uint8)
        raw[..., :64] = codes[..., 0] | codes[..., 1] << 2 | codes[..., 2] << 4 | codes[..., 3] << 6
    return raw.reshape(2, -1)


def codecs(out):
    rng = np.random.default_rng(20)
    found = {}
    bits = np.array(
        [0x0000, 0x8000, 0x0001, 0x03FF, 0x0400, 0x3C00, 0xC000, 0x7BFF, 0xFBFF, 0x3555], "<u2"
    )  # zeros, subnormals, 1, -2, largest
    halves = np.concatenate([bits, (rng.standard_normal(54) * 3).astype("<f2").view("<u2")])
    found["f16.bytes"] = halves.view(np.uint8).reshape(2, -1)
    brain = np.array([0x0000, 0x8000, 0x0001, 0x0080, 0x3F80, 0xC000, 0x7F7F, 0xFF7F], "<u2")
    brain = np.concatenate([brain, ((rng.standard_normal(56) * 3).astype("<f4").view("<u4") >> 16).astype("<u2")])
    found["bf16.bytes"] = brain.view(np.uint8).reshape(2, -1)
    for kind in SCALES:
        found[f"{kind.name.lower()}.bytes"] = random_blocks(kind, rng)
    for kind in [T.F16, T.BF16, *SCALES]:
        name = kind.name.lower()
        found[f"{name}.values"] = quants.dequantize(found[f"{name}.bytes"], kind).astype(np.float32)
        assert np.isfinite(found[f"{name}.values"]).all(), name
    for kind in WRITABLE:
        name = kind.name.lower()
        width = max(GGML_QUANT_SIZES[kind][0], 64)
        source = rng.standard_normal((2, width)).astype(np.float32)
        if kind in (T.TQ1_0, T.TQ2_0):
            source = rng.integers(-1, 2, (2, width)).astype(np.float32) * np.float32(0.0173)
        source[1, : width // 2] = 0  # blocks of zeros: the scale is 0 and nothing may divide by it
        with np.errstate(all="ignore"):
            raw = quants.quantize(source, kind)
        found[f"{name}.source"] = source
        found[f"{name}.quantized.bytes"] = raw.view(np.uint8).reshape(2, -1)
        found[f"{name}.quantized.values"] = quants.dequantize(found[f"{name}.quantized.bytes"], kind).astype(np.float32)
        assert np.isfinite(found[f"{name}.quantized.values"]).all(), name
    save_file({k: np.ascontiguousarray(v) for k, v in found.items()}, out / "codecs.safetensors")
    for name, array in found.items():
        print(f"{name:26} {array.dtype} {array.shape}")


def gguf_file(out):
    rng = np.random.default_rng(21)
    path = out / "written_by_gguf.gguf"
    writer = GGUFWriter(path, "golden")
    scalars = {
        "golden.u8": (V.UINT8, 200),
        "golden.i8": (V.INT8, -100),
        "golden.u16": (V.UINT16, 60000),
        "golden.i16": (V.INT16, -30000),
        "golden.u32": (V.UINT32, 4000000000),
        "golden.i32": (V.INT32, -2000000000),
        "golden.f32": (V.FLOAT32, 0.15625),
        "golden.bool.true": (V.BOOL, True),
        "golden.bool.false": (V.BOOL, False),
        "golden.string": (V.STRING, "grüße, 世界"),
        "golden.string.empty": (V.STRING, ""),
        "golden.u64": (V.UINT64, 2**63 + 5),
        "golden.i64": (V.INT64, -(2**62)),
        "golden.f64": (V.FLOAT64, 0.1),
    }
    arrays = {
        "golden.array.string": (V.STRING, ["a", "", "Ġthe", "\n\t"]),
        "golden.array.i32": (V.INT32, [1, -2, 3]),
        "golden.array.f32": (V.FLOAT32, [0.5, -1.25]),
        "golden.array.u8": (V.UINT8, [0, 255]),
        "golden.array.bool": (V.BOOL, [True, False, True]),
        "golden.array.u64": (V.UINT64, [1, 2**40]),
    }
    metadata = {"general.architecture": {"type": "STRING", "value": "golden"}}
    for key, (kind, value) in scalars.items():
        writer.add_key_value(key, value, kind)
        metadata[key] = {"type": kind.name, "value": value}
    for key, (kind, value) in arrays.items():
        writer.add_key_value(key, value, V.ARRAY, sub_type=kind)
        metadata[key] = {"type": f"ARRAY[{kind.name}]", "value": value}

    tensors = []
    for name, kind, shape in (
        ("matrix.f32", T.F32, (3, 5)),
        ("cube.f16", T.F16, (2, 3, 7)),
        ("rows.q8_0", T.Q8_0, (4, 64)),
        ("vector.f32", T.F32, (33,)),
    ):
        values = rng.standard_normal(shape).astype(np.float32)
        stored = (
            values if kind == T.F32 else values.astype(np.float16) if kind == T.F16 else quants.quantize(values, kind)
        )
        writer.add_tensor(name, stored, raw_dtype=kind)
        back = stored.astype(np.float32) if kind != T.Q8_0 else quants.dequantize(stored, kind)
        tensors.append(
            {
                "name": name,
                "type": kind.name,
                "shape": list(reversed(shape)),
                "values": [float(v) for v in back.ravel()[:8]],
            }
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    reader = GGUFReader(path)  # the listing must be what the package itself reads back
    assert [t.name for t in reader.tensors] == [t["name"] for t in tensors]
    assert [list(map(int, t.shape)) for t in reader.tensors] == [t["shape"] for t in tensors]
    for key, entry in metadata.items():
        assert reader.get_field(key).contents() == entry["value"], key
    listing = {"version": 3, "alignment": 32, "metadata": metadata, "tensors": tensors}
    (out / "written_by_gguf.json").write_text(
        json.dumps(listing, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    codecs(args.out)
    gguf_file(args.out)
