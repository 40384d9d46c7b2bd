#!/usr/bin/env bash
# Compiles for 64-bit ARM and runs the tests in an emulator, on a Debian-like x86-64 machine. Installs by name what it needs.
#
# usage: test.sh [quick]
#
#   quick      the unit tests of `chalot-simd` and `chalot-tensor`, every kernel against its reference, without two long ones
#              of attention's own logic
#   otherwise  the tests of all libraries, and the story of the built-in model, which must be the one that is told here
#
# Tests run on a CPU that has all of Advanced SIMD, so with IsaKind::Neon and IsaKind::NeonDot; the products also on one
# without its dot product, which must not meet one. An emulator says nothing about speed.
#
# The compiler is Debian's (`rustc-web`), because its standard library for ARM is a package; what it makes goes to a target
# folder of its own. Where the packages cannot be had, this says "skipped" and succeeds.
set -euo pipefail
cd "$(dirname "$0")/../.."
quick=${1:-}

skip() { echo "arm: skipped: $*"; exit 0; }

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || skip "this is not x86-64 Linux"
command -v apt-get > /dev/null || skip "this is not a Debian-like system"

packages=(rustc-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)
if ! dpkg -s "${packages[@]}" > /dev/null 2>&1; then
  [ "$(id -u)" = 0 ] || skip "not root, and not installed: ${packages[*]}"
  dpkg --add-architecture arm64
  apt-get update -q || skip "no package lists"
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}" || skip "no packages"
fi

wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
found=$(/usr/bin/rustc --version | cut -d' ' -f2)
printf '%s\n' "$wanted" "$found" | sort -C -V || skip "Rust $wanted is needed, the package has $found"

# libstd-rust-web-dev:arm64 brings ARM's own dynamic linker and C library, which the emulator finds where they are at home.
# (Not those of the cross compiler with `-L`: a linker of another build than the library it loads hangs in the first thread.)
arm() { # arm CPU CARGO-COMMAND...
  env RUSTC=/usr/bin/rustc CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/arm" \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $1" \
    cargo "${@:2}"
}

echo "arm: rustc $found, $(qemu-aarch64 --version | head -n 1)"
lanes=(test -q -p chalot-simd -p chalot-tensor --lib --)
arm cortex-a72 "${lanes[@]}" isa:: cpu:: linear::tests::every_kernel lanes::tests
if [ "$quick" = quick ]; then
  arm max "${lanes[@]}" --skip any_split_has_the_same_bits --skip chunks_are_merged_in_order
  exit
fi
# (No doc tests: they would need a rustdoc of the same version.)
arm max test -q --tests -p chalot-simd -p chalot-tensor -p chalot-formats -p chalot-tokenizer -p chalot-model

story=(run -q --release -p chalot)
words=(-- run --quiet --seed 1 -n 30 --temp 0)
here=$(cargo "${story[@]}" "${words[@]}" < /dev/null)
for cpu in max cortex-a72; do
  there=$(arm "$cpu" "${story[@]}" "${words[@]}" < /dev/null)
  [ "$here" = "$there" ] || { printf 'arm: on %s the story is\n%s\nand here\n%s\n' "$cpu" "$there" "$here" >&2; exit 1; }
done
echo "arm: the same story: $here"
