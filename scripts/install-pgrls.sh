#!/usr/bin/env bash
# pgrls, which the static audit is measured against: into a virtual environment below $GUARDIAN_CACHE.
set -euo pipefail

version=0.57.1
folder=${GUARDIAN_CACHE:-$HOME/.cache/guardian}/tools/pgrls-$version
if [[ -x $folder/bin/pgrls ]]; then exit 0; fi
if ! command -v python3 > /dev/null; then
    echo "There is no Python; install python3 with venv, and run this again." >&2
    exit 1
fi
# Under a name of its own until it is whole.
rm -rf "$folder.part"
python3 -m venv "$folder.part"
"$folder.part/bin/pip" install --quiet --disable-pip-version-check "pgrls==$version"
# Scripts of a virtual environment have its path in them.
sed -i "s|$folder.part|$folder|g" "$folder.part"/bin/*
mv "$folder.part" "$folder"
