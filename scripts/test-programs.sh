#!/usr/bin/env bash
# Make sure that the programs which the tests start are there: redis-server and Chromium; and
# proxies and Node if they can be had, without which the tests of the proxies' configurations and of
# the browser client under faults are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()

have_chromium() {
    command -v chromium || command -v chromium-browser || command -v google-chrome ||
        .venv/bin/python -c '
import os
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    raise SystemExit(not os.path.exists(playwright.chromium.executable_path))'
} >/dev/null 2>&1

have_proxy() {
    PATH=$PATH:/usr/sbin command -v "$1" >/dev/null
}

install_chromium() {
    # Ubuntu has Chromium as a snap only, which containers cannot run: there playwright brings its own.
    if grep -qs '^ID=ubuntu' /etc/os-release; then
        [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null || return 1
        .venv/bin/python -m playwright install --with-deps chromium
    else
        scripts/apt-install.sh chromium
    fi
}

command -v redis-server >/dev/null || scripts/apt-install.sh redis-server || missing+=(redis-server)
have_chromium || install_chromium || missing+=(chromium)

proxies=()
have_proxy nginx || proxies+=(nginx-light)
have_proxy haproxy || proxies+=(haproxy)
have_proxy apache2 || proxies+=(apache2-bin)
have_proxy varnishd || proxies+=(varnish)
# Not where they would be started as services, for all to see: in a container they are not.
[ ${#proxies[@]} -eq 0 ] ||
    { [ ! -d /run/systemd/system ] && scripts/apt-install.sh "${proxies[@]}"; } ||
    echo "Going on without ${proxies[*]}" >&2

command -v node >/dev/null || scripts/apt-install.sh nodejs || echo "Going on without Node" >&2

if [ ${#missing[@]} -gt 0 ]; then
    echo "The tests need: ${missing[*]}" >&2
    echo "  Debian:  sudo apt install ${missing[*]}" >&2
    echo "  Ubuntu:  sudo apt install redis-server && .venv/bin/playwright install --with-deps chromium" >&2
    echo "  macOS:   brew install redis && .venv/bin/playwright install chromium" >&2
    exit 1
fi
