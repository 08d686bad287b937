#!/bin/sh
# Print the path of a Debian cloud kernel, of SUITE, unpacked under target/kernels.
#
#   scripts/kernel.sh SUITE          e.g. bullseye (5.10), bookworm (6.1), trixie (6.12), sid
set -eu
suite=${1:?usage: scripts/kernel.sh SUITE}
cd "$(dirname "$0")/.."
root=$PWD/target/kernels/$suite
image=$root/vmlinuz

if ! [ -e "$image" ]; then
    echo "kernel.sh: downloading Debian's cloud kernel of $suite to target/kernels (not installed)" >&2
    rm -rf "$root"
    scripts/package.sh "$suite" linux-image-cloud-amd64 "$root/unpacked"
    # Linked last: the image is there only when all of it is.
    ln "$(find "$root/unpacked" -name 'vmlinuz*' | head -n 1)" "$image"
fi
echo "$image"
