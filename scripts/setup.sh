#!/bin/sh
# Install what the demo and the tests need beyond git, make, a C compiler and cargo: QEMU and a
# static busybox, from Debian's packages, and the PACKAGES named. Says so first; does nothing where
# they are there.
#
#   scripts/setup.sh [PACKAGES]
set -eu

packages=
command -v qemu-system-x86_64 >/dev/null || packages="$packages qemu-system-x86"
# A dynamic busybox is of no use in a guest without libraries.
if ! [ -x /bin/busybox ] || ldd /bin/busybox >/dev/null 2>&1; then
    packages="$packages busybox-static"
fi
for package in "$@"; do
    dpkg -s "$package" >/dev/null 2>&1 || packages="$packages $package"
done
[ -n "$packages" ] || exit 0

echo "setup: installing Debian packages:$packages"
if [ "$(id -u)" = 0 ]; then
    root=
elif command -v sudo >/dev/null; then
    root=sudo
else
    echo "setup: run as root, or install sudo, or install them yourself:$packages" >&2
    exit 1
fi
$root apt-get -q update
# shellcheck disable=SC2086 # a list of words
$root env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $packages
