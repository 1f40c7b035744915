#!/usr/bin/env bash
# Make .venv and install the project into it: scripts/venv.sh PYTHON [EXTRA]
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1
extra=${2:-}

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

minor() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

version=$(minor "$python") ||
    fail "'$python' cannot be run. Install Python 3.11 or later (Debian, Ubuntu: apt install python3 python3-venv)" \
         "or name one: make PYTHON=/path/to/python3.13 …"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "'$python' is Python $version, and the project needs 3.11 or later." \
         "Name another one: make PYTHON=python3.13 …"

# Debian and Ubuntu ship the venv module without what it needs.
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    scripts/apt-install.sh "python$version-venv" ||
    fail "'$python' has no working venv module. Debian, Ubuntu: apt install python$version-venv"

if [ "$(minor .venv/bin/python || true)" != "$version" ]; then
    echo "Making .venv with Python $version"
    rm -rf .venv
    "$python" -m venv .venv
fi

.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --editable ".${extra:+[$extra]}"
