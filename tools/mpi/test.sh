#!/usr/bin/env bash
# 1, 2 and 4 processes make the same curves and the same model, bit for bit.
# Needs an MPI library with its headers and libclang (Debian: libopenmpi-dev openmpi-bin libclang-dev).
set -euo pipefail
cd "$(dirname "$0")/../.."
target="${CARGO_TARGET_DIR:-target}/mpi"
CARGO_TARGET_DIR="$target" cargo build --release --features mpi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 - "$work/stories.txt" <<'PY'
import random, sys
r = random.Random(1)
who, did = ["The king", "The queen", "A fox", "The hen"], ["went home", "saw a boat", "sang a song", "lost a ring"]
story = lambda: "\n\n".join(f"{r.choice(who)} {r.choice(did)}." for _ in range(20))
open(sys.argv[1], "w").write("<|endoftext|>".join(story() for _ in range(60)))
PY
cat > "$work/recipe.toml" <<'TOML'
name = "MPI"
[data]
held_out = { every = 8 }
[[data.texts]]
path = "stories.txt"
[tokenizer]
size = 320
[model]
depth = 2
width = 64
context = 64
experts = { count = 4 }
[train]
steps = 30
rows = 16
micro_rows = 4
context = 64
[evaluate]
every = 10
sample = 0
[checkpoint]
every = 10
TOML
curve() { python3 -c '
import json, sys
for line in open(sys.argv[1]):
    r = json.loads(line)
    if r["kind"] != "start": print(r["step"], r["loss"], r["bits_per_byte"])' "$1/log.jsonl"; }
for processes in 1 2 4; do
  mpirun --allow-run-as-root --oversubscribe -np "$processes" "$target/release/chalot" --threads 1 \
    train "$work/recipe.toml" --out "$work/$processes" --mpi -q
  curve "$work/$processes" > "$work/$processes.curve"
  [ "$(wc -l < "$work/$processes.curve")" = 33 ]
  cmp "$work/1.curve" "$work/$processes.curve"
  cmp "$work/1/model.gguf" "$work/$processes/model.gguf"
  echo "$processes processes: the same curve and the same model"
done
