#!/bin/sh
# Build a kernel that says nothing of itself, neither BTF nor kallsyms, from Debian's linux-source
# package with fixtures/plain-kernel/config, under target/kernels/plain: vmlinuz, System.map, and
# vmlinux with DWARF. Takes some minutes and 3 GB.
set -eu
cd "$(dirname "$0")/.."
root=$PWD/target/kernels/plain
config=$PWD/fixtures/plain-kernel/config

if [ -e "$root/vmlinuz" ] && cmp -s "$config" "$root/config"; then
    exit 0
fi
scripts/setup.sh flex bison bc xz-utils libelf-dev
if ! [ -d "$root/source" ]; then
    echo "plain-kernel.sh: downloading Debian's linux-source to target/kernels/plain (not installed)" >&2
    rm -rf "$root"
    scripts/package.sh bookworm linux-source "$root/unpacked"
    mkdir "$root/part"
    tar -C "$root/part" --strip-components=1 -xf "$root"/unpacked/usr/src/linux-source-*.tar.xz
    rm -rf "$root/unpacked"
    mv "$root/part" "$root/source"
fi
echo "plain-kernel.sh: building it" >&2
rm -f "$root/vmlinuz"
KCONFIG_ALLCONFIG=$config make -s -C "$root/source" allnoconfig
make -s -C "$root/source" -j "$(nproc)" bzImage
cp "$root/source/System.map" "$root/source/vmlinux" "$config" "$root"
# Last: the image is there only when all of it is.
cp "$root/source/arch/x86/boot/bzImage" "$root/vmlinuz"
