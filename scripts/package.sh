#!/bin/sh
# Unpack the Debian package of SUITE that the package META depends on, into FOLDER.
#
#   scripts/package.sh SUITE META FOLDER      e.g. bookworm linux-image-cloud-amd64 target/x
#
# Nothing is installed and the machine's own package lists stay as they are: apt gets a
# sources file, lists and a cache of its own. The mirror is the one this machine uses.
set -eu
usage="usage: scripts/package.sh SUITE META FOLDER"
suite=${1:?$usage} meta=${2:?$usage} folder=${3:?$usage}

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# The mirror that serves this machine's own release, told by its sources alone.
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
    awk -v codename="$codename" '$2 == codename || $2 == "stable" || $2 == "unstable" { print $1 }' |
    sort -u | grep /debian/ | head -n 1)
if [ -z "$mirror" ]; then
    echo "package.sh: apt's sources name no Debian mirror to take $meta of $suite from" >&2
    exit 1
fi

mkdir -p "$folder"
work=$(cd "$folder" && pwd)/apt
rm -rf "$work"
mkdir -p "$work/lists/partial" "$work/archives/partial"
echo "deb [signed-by=$keyring] $mirror $suite main" > "$work/sources.list"
# The settings keep this run apart from the machine's own apt.
apt() {
    tool=$1
    shift
    "$tool" -q -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work" \
        -o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}
apt apt-get update >&2
dependency() {
    apt apt-cache depends "$1" | sed -n "s/^ *Depends: \(linux-$2-.*[0-9].*\)/\1/p" | head -n 1
}
package=$(dependency "$meta" '\(image\|source\)')
# From 7.x on the image itself is one package further.
binary=$(dependency "$package" binary)
package=${binary:-$package}
(cd "$work" && apt apt-get download "$package" >&2)
dpkg -x "$work"/"$package"_*.deb "$folder"
rm -rf "$work"
