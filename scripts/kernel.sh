#!/bin/sh
# Print the path of a Debian cloud kernel, of SUITE, unpacked under target/kernels.
#
#   scripts/kernel.sh SUITE          e.g. bookworm (6.1), trixie (6.12)
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
    ln "$root"/unpacked/boot/vmlinuz-* "$image"
fi
echo "$image"
