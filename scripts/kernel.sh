#!/bin/sh
# Print the path of a Debian cloud kernel, of SUITE, unpacked under target/kernels.
#
#   scripts/kernel.sh SUITE          e.g. bookworm (6.1), trixie (6.12)
#
# Nothing is installed and the machine's own package lists stay as they are: apt gets a
# sources file, lists and a cache of its own. The mirror is the one this machine uses.
set -eu
suite=${1:?usage: scripts/kernel.sh SUITE}
cd "$(dirname "$0")/.."
root=$PWD/target/kernels/$suite
image=$root/vmlinuz

if [ -e "$image" ]; then
    echo "$image"
    exit 0
fi

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# The mirror that serves this machine's own release, told by its sources alone.
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
    awk -v codename="$codename" '$2 == codename || $2 == "stable" || $2 == "unstable" { print $1 }' |
    sort -u | grep /debian/ | head -n 1)
if [ -z "$mirror" ]; then
    echo "kernel.sh: apt's sources name no Debian mirror: give KERNEL=PATH" >&2
    exit 1
fi

echo "kernel.sh: downloading Debian's cloud kernel of $suite to target/kernels (not installed)" >&2
rm -rf "$root"
mkdir -p "$root/apt/lists/partial" "$root/apt/archives/partial" "$root/unpacked"
echo "deb [signed-by=$keyring] $mirror $suite main" > "$root/apt/sources.list"
# The four settings keep this run apart from the machine's own apt.
apt() {
    tool=$1
    shift
    "$tool" -q -o Dir::Etc::SourceList="$root/apt/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$root/apt/lists" -o Dir::Cache="$root/apt" \
        -o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}
apt apt-get update >&2
package=$(apt apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
(cd "$root/apt" && apt apt-get download "$package" >&2)
dpkg -x "$root"/apt/"$package"_*.deb "$root/unpacked"
rm -rf "$root/apt"
# Linked last: the image is there only when all of it is.
ln "$root"/unpacked/boot/vmlinuz-* "$image"
echo "$image"
