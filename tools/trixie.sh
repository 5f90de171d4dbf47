#!/bin/sh
# Makes target/trixie: Debian 13 in a folder, for its tshark, the first that reads BIER (Debian 12's doesn't know it). Takes
# about a minute, once. Exit codes: 0 it is there, 3 it can't be made.
set -eu
cd "$(dirname "$0")/.."
folder=target/trixie

# Renamed when whole: what has this name works.
[ ! -d "$folder" ] || exit 0

# From where this machine gets its own packages.
mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)"
[ -n "$mirror" ] || { echo "trixie: apt knows no mirror of Debian" >&2; exit 3; }
mkdir -p target
rm -rf --one-file-system "$folder.part"
echo "trixie: installing Debian 13's tshark in $folder"
if ! debootstrap --variant=minbase --include=tshark trixie "$folder.part" "$mirror" >"$folder.log" 2>&1; then
    tail -n 20 "$folder.log" >&2
    echo "trixie: Debian 13 can't be installed from $mirror; the whole story is in $folder.log" >&2
    exit 3
fi
chroot "$folder.part" tshark --version 2>/dev/null | head -n 1
# Two thirds of the disk that it takes.
rm -rf --one-file-system "$folder.part"/var/cache/apt/* "$folder.part"/var/lib/apt/lists/* \
    "$folder.part"/usr/share/doc "$folder.part"/usr/share/locale
mv "$folder.part" "$folder"
