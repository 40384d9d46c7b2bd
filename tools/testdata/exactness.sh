#!/usr/bin/env bash
# The large comparison: 100 MB of mixed text and 10 million random strings, encoded by Hugging Face `tokenizers` and `tiktoken` and
# then by us, for GPT-2, Llama 3, cl100k, o200k and Qwen 3. Takes about an hour on two cores; what is there is not made again.
#
# usage: exactness.sh [FOLDER] [STRINGS]     default: target/test-data in the workspace, 2000000 strings for each vocabulary
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
folder=${1:-${CHALOT_TEST_DATA:-$root/target/test-data}}
strings=${2:-2000000}
"$here/fetch.sh" "$folder"
folder=$(cd "$folder" && pwd)
out=$folder/exactness
mkdir -p "$out"
python=$folder/python/bin/python
assets=$root/../shared/assets
"$python" -c 'import tiktoken' 2> /dev/null || "$python" -m pip install --quiet --disable-pip-version-check tiktoken==0.14.0

# The ranks of OpenAI's vocabularies come with a crate.
if [ ! -f "$out/o200k_base.tiktoken" ]; then
  scratch=$(mktemp -d "$out/fetching.XXXXXX")
  trap 'rm -rf "$scratch"' EXIT
  mkdir "$scratch/src"
  touch "$scratch/src/lib.rs"
  printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\ntiktoken-rs = "=0.12.1"\n' > "$scratch/Cargo.toml"
  (cd "$scratch" && cargo vendor --quiet vendored > /dev/null)
  cp "$scratch"/vendored/tiktoken-rs/assets/{r50k_base,cl100k_base,o200k_base}.tiktoken "$out/"
fi

code=("${CARGO_HOME:-$HOME/.cargo}/registry/src" "$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')")
[ -f "$out/text.records" ] || "$python" "$here/exactness.py" text "$out/text.records" "$assets" "${code[@]}"
seed=1
for name in gpt2 llama3 gpt35turbo gpt4o qwen3; do
  [ -f "$out/$name.random.records" ] || "$python" "$here/exactness.py" random "$out/$name.random.records" $seed "$strings"
  seed=$((seed + 1))
  for records in text "$name.random"; do
    ids=$out/$name.$([ "$records" = text ] && echo text || echo random).ids
    [ -f "$ids" ] || "$python" "$here/tokenizer_ids.py" "$folder/tokenizers/$name.json" "$out/$records.records" "$ids"
  done
done
while read -r name encoding ranks; do
  for kind in text random; do
    records=$out/$([ $kind = text ] && echo text || echo "$name.random").records
    [ -f "$out/$ranks.$kind.ids" ] || "$python" "$here/tiktoken_ids.py" $encoding "$out/$ranks.tiktoken" "$records" "$out/$ranks.$kind.ids"
  done
done << 'LIST'
gpt2 gpt2 r50k_base
gpt35turbo cl100k_base cl100k_base
gpt4o o200k_base o200k_base
LIST
CHALOT_TEST_DATA=$folder cargo test --release -p chalot-tokenizer --test huggingface -- --ignored --nocapture
