#!/usr/bin/env bash
# Install packages with apt where that is allowed without asking: scripts/apt-install.sh PACKAGE...
# Fails where there is no apt, and where the caller is neither root nor has sudo without a password.
set -euo pipefail

command -v apt-get >/dev/null || exit 1

as_root=(env DEBIAN_FRONTEND=noninteractive)
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || exit 1
    as_root=(sudo -n "${as_root[@]}")
fi

# The machine may be installing something else at the moment, and the network may stumble.
patient=(-o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Acquire::http::Timeout=20)

echo "Installing $*" >&2
"${as_root[@]}" apt-get update -qq "${patient[@]}" || echo "The package lists may be old" >&2
"${as_root[@]}" apt-get install -qq --no-install-recommends "${patient[@]}" "$@" >/dev/null
