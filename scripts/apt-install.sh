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

echo "Installing $*" >&2
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -qq --no-install-recommends "$@" >/dev/null
