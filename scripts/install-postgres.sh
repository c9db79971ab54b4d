#!/usr/bin/env bash
# Sees to it that PostgreSQL 15 or newer is on this machine. Says what it installs; changes nothing where it is there already.
set -euo pipefail

major_min=15

say() { printf '%s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

# The newest major version of the server programs, or 0: the places where `guardian up` looks, too.
newest() {
    local newest=0 folder major
    local IFS=:
    for folder in $PATH /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
        /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin /home/linuxbrew/.linuxbrew/opt/postgresql*/bin; do
        [[ -x $folder/postgres && -x $folder/initdb && -x $folder/pg_ctl ]] || continue
        major=$("$folder/postgres" --version 2> /dev/null | sed -E 's/[^0-9]*([0-9]+).*/\1/') || continue
        if [[ $major =~ ^[0-9]+$ ]] && ((major > newest)); then newest=$major; fi
    done
    echo "$newest"
}

is_there() { (($(newest) >= major_min)) && command -v psql > /dev/null; }

as_root() {
    if (($(id -u) == 0)); then
        "$@"
    elif [[ -t 0 ]]; then
        sudo "$@"
    else
        sudo --non-interactive "$@"
    fi
}

apt_install() {
    say "+ apt-get install $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@" > /dev/null
}

# The major version that the package `postgresql` stands for, or 0.
apt_major() { apt-cache policy postgresql | sed -nE 's/^ *Candidate: ([0-9]+).*/\1/p' | grep . || echo 0; }

install_with_apt() {
    say "+ apt-get update"
    as_root apt-get update > /dev/null
    apt_install postgresql-common ca-certificates
    local settings=/etc/postgresql-common/createcluster.conf package=postgresql
    if (($(apt_major) < major_min)); then
        say "This release has PostgreSQL $(apt_major) only; adding the repository of the PostgreSQL project."
        as_root /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y > /dev/null
        package=postgresql-18
    fi
    # The package would start a server on port 5432; nobody asked for one.
    as_root cp --preserve "$settings" "$settings.before-guardian"
    echo "create_main_cluster = false" | as_root tee --append "$settings" > /dev/null
    local failed=0
    apt_install "$package" || failed=1
    as_root mv "$settings.before-guardian" "$settings"
    return "$failed"
}

if is_there; then exit 0; fi
say "There is no PostgreSQL $major_min or newer on this machine; installing it."
case $(uname -s) in
    Darwin)
        command -v brew > /dev/null || die "Install Homebrew (https://brew.sh), or PostgreSQL $major_min or newer by other means."
        say "+ brew install postgresql@18"
        brew install postgresql@18
        ;;
    *)
        command -v apt-get > /dev/null || die "Install PostgreSQL $major_min or newer (server and psql) with this system's package manager."
        (($(id -u) == 0)) || command -v sudo > /dev/null || die "Run as root: apt-get install postgresql"
        install_with_apt || die "The installation failed; see above."
        ;;
esac
(($(newest) >= major_min)) || die "PostgreSQL $major_min or newer is still not there; install it by hand."
say "PostgreSQL $(newest) is there."
