#!/bin/sh
# Print the path of one of Debian's kernels, unpacked under target/kernels/NAME.
#
#   scripts/kernel.sh SUITE          its cloud kernel: bullseye (5.10), bookworm (6.1), trixie
#                                    (6.12), sid (7.x)
#   scripts/kernel.sh SUITE-rt       its real-time one: bookworm-rt
set -eu
name=${1:?usage: scripts/kernel.sh SUITE[-rt]}
case $name in
    *-rt) suite=${name%-rt} flavour=rt ;;
    *) suite=$name flavour=cloud ;;
esac
cd "$(dirname "$0")/.."
root=$PWD/target/kernels/$name
image=$root/vmlinuz

if ! [ -e "$image" ]; then
    echo "kernel.sh: downloading Debian's $flavour kernel of $suite to target/kernels (not installed)" >&2
    rm -rf "$root"
    scripts/package.sh "$suite" "linux-image-$flavour-amd64" "$root/unpacked"
    # Linked last: the image is there only when all of it is.
    ln "$(find "$root/unpacked" -name 'vmlinuz*' | head -n 1)" "$image"
fi
echo "$image"
