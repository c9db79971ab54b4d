#!/usr/bin/env bash
# Fetches what the tests of client drivers need into <folder>: the drivers, and the test suites of those that publish theirs. Each
# is pinned by its version. What cannot be had is named at the end, and the tests that want it are skipped.
set -euo pipefail

folder=${1:?usage: fetch-drivers.sh FOLDER}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
missing=()

python_packages=('psycopg[binary]==3.2.6' psycopg2-binary==2.9.11 asyncpg==0.32.0 sqlalchemy==2.0.45 greenlet==3.2.4 pytest==8.4.2 distro==1.9.0 anyio==4.9.0)
# A migration tool of the kind that `guardian migrate --exec` runs.
alembic_packages=(alembic==1.20.1 sqlalchemy==2.0.45 greenlet==3.2.4 'psycopg[binary]==3.2.6')
node_packages=(pg@8.16.3 postgres@3.4.7)
# An application that others wrote, which a test adopts.
django_packages=(django-ledger==0.7.9 django==5.2.19 django-treebeard==7.0.3 asgiref==3.13.0 sqlparse==0.6.1 faker==40.63.0 tzdata==2026.6
    markdown==3.11.3 ofxtools==1.1.1 pillow==13.0.0 python-dateutil==4.0.0 six==1.17.0 typing-extensions==4.16.0 'psycopg[binary]==3.2.6')
# What node-postgres's own tests need beside its sources.
node_suite_packages=(pg-types@2.2.0 pgpass@1.0.5 pg-protocol@1.10.3 pg-connection-string@2.9.1 pg-cloudflare@1.2.7 async@2.6.4
    bluebird@3.7.2 co@4.6.0 pg-copy-streams@0.3.0 expect.js@0.3.1 lodash@4.17.21 mocha@10.8.2 typescript@4.9.5 ts-node@10.9.2
    JSONStream@1.3.5 concat-stream@1.0.1 stream-spec@0.3.5 pg-query-stream@4.10.3)

# Puts a part into its place unless that version of it is there. A part is made by the function of its name, in an empty folder.
part() {
    local name=$1 version=$2
    if [[ $(cat "$folder/$name/version" 2> /dev/null) == "$version" ]]; then return; fi
    echo "Fetching $name ($version)"
    rm -rf "${folder:?}/$name"
    mkdir "$folder/$name"
    # In a shell of its own, so that a failure stops the part and nothing else; `||` would switch off its `set -e`.
    local failed
    set +e
    (set -e; cd "$folder/$name"; "make_$name")
    failed=$?
    set -e
    if ((failed)); then
        rm -rf "${folder:?}/$name"
        missing+=("$name")
    else
        echo "$version" > "$folder/$name/version"
    fi
}

make_python() {
    python3 -m venv venv
    venv/bin/pip install --quiet "${python_packages[@]}"
}

make_django_ledger() {
    python3 -m venv venv
    venv/bin/pip install --quiet "${django_packages[@]}"
}

make_alembic() {
    python3 -m venv venv
    venv/bin/pip install --quiet "${alembic_packages[@]}"
}

make_node() {
    echo '{"private": true}' > package.json
    npm install --silent --no-save --no-audit --no-fund --ignore-scripts "${node_packages[@]}" > /dev/null
}

# pgjdbc out of Debian's package; `java` and `javac` have to be there.
make_jdbc() {
    command -v javac > /dev/null || { echo "There is no javac."; return 1; }
    if [[ -e /usr/share/java/postgresql.jar ]]; then
        cp --dereference /usr/share/java/postgresql.jar postgresql.jar
    else
        apt-get download libpostgresql-jdbc-java > /dev/null
        dpkg-deb --extract libpostgresql-jdbc-java_*.deb unpacked
        cp --dereference unpacked/usr/share/java/postgresql.jar postgresql.jar
        rm -rf unpacked ./*.deb
    fi
}

# Sources out of PyPI, of this checksum.
python_source() {
    local package=$1 file=$2 sha256=$3 pip=$folder/python/venv/bin/pip
    shift 3
    [[ -x $pip ]] || { echo "It needs the part python."; return 1; }
    "$pip" download --quiet --no-deps --no-binary "${package%%==*}" "$package"
    echo "$sha256  $file" | sha256sum --check --quiet
    tar -xzf "$file" --strip-components 1 "$@"
    rm "$file"
}

# These publish their tests with their sources. SQLAlchemy's drive psycopg 3.
make_asyncpg() { python_source asyncpg==0.32.0 asyncpg-0.32.0.tar.gz 45e64e56714d888330b884aad1dfb363d0bf43fb343e3d1a8968525f3bade478 --wildcards '*/tests'; }
make_psycopg2() { python_source psycopg2==2.9.11 psycopg2-2.9.11.tar.gz 964d31caf728e217c697ff77ea69c2ba0865fa41ec20bb00f0977e62fdcc52e3 --wildcards '*/tests'; }
make_sqlalchemy() { python_source sqlalchemy==2.0.45 sqlalchemy-2.0.45.tar.gz 1632a4bda8d2d25703fdad6363058d882541bdaaee0e5e3ddfa0cd3229efce88; }

# Sources of a Debian package, from the mirror that this machine uses, without touching its lists. Some mirrors lack some of a
# package's files: only the named one has to come.
debian_source() {
    local package=$1 suites=$2 file=$3 sha256=$4 mirror
    [[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || { echo "Debian's keys are not here."; return 1; }
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
    [[ $mirror ]] || { echo "This machine has no mirror of Debian."; return 1; }
    mkdir -p apt/lists/partial apt/archives/partial apt/parts
    cat > apt/parts/debian.sources << SOURCES
Types: deb-src
URIs: $mirror
Suites: $suites
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
    cat > apt/apt.conf << SETTINGS
APT::Sandbox::User "$(id -un)";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$PWD/apt/parts";
Dir::State::lists "$PWD/apt/lists";
Dir::Cache "$PWD/apt";
SETTINGS
    APT_CONFIG=$PWD/apt/apt.conf apt-get update > /dev/null || return 1
    APT_CONFIG=$PWD/apt/apt.conf apt-get source --only-source --tar-only --download-only "$package" > apt/log 2>&1 || true
    [[ -e $file ]] || { echo "The mirror does not hand out $file."; return 1; }
    echo "$sha256  $file" | sha256sum --check --quiet
    rm -rf apt
}

make_node_postgres() {
    local file='node-postgres_8.16.3+~cs35.24.27.orig.tar.gz'
    debian_source 'node-postgres=8.16.3+~cs35.24.27-5' 'forky sid' "$file" \
        03803c9ccfca47b63bf57bf3f166002ee64652a7e26c2d91fb94da19d769381e
    tar -xzf "$file" --strip-components 1 --wildcards '*/packages'
    rm ./node-postgres_*
    echo '{"private": true}' > package.json
    npm install --silent --no-save --no-audit --no-fund --legacy-peer-deps --ignore-scripts "${node_suite_packages[@]}" > /dev/null
    # TypeScript's output is not among the sources.
    cp -r node_modules/pg-query-stream/dist packages/pg-query-stream/
    for package in pg pg-pool pg-cursor pg-query-stream; do
        rm -rf "node_modules/$package"
        ln -s "../packages/$package" "node_modules/$package"
    done
}

part python "${python_packages[*]}"
part django_ledger "${django_packages[*]}"
part alembic "${alembic_packages[*]}"
part node "${node_packages[*]}"
part jdbc "Debian's"
part asyncpg 0.32.0
part sqlalchemy 2.0.45
part node_postgres "8.16.3 ${node_suite_packages[*]}"
part psycopg2 2.9.11

if ((${#missing[@]})); then
    echo "These cannot be had here; the tests that want them are skipped, and say so: ${missing[*]}." >&2
    exit 1
fi
echo "The drivers are in $folder."
