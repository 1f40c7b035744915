#!/usr/bin/env bash
# Make sure that the programs which the tests start are there: redis-server, PostgreSQL and Chromium;
# and proxies, Prometheus, Node and TypeScript if they can be had, without which the tests of the proxies'
# configurations, of the alert rules, of the browser client under faults and of its types are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()

have_chromium() {
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null ||
        command -v google-chrome >/dev/null || have_playwrights
}

# With windows left out, the tests of the page need less than half the processor time.
have_shell() {
    command -v chromium-headless-shell >/dev/null || have_playwrights
}

have_playwrights() {
    .venv/bin/python -c '
import os
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    raise SystemExit(not os.path.exists(playwright.chromium.executable_path))'
} >/dev/null 2>&1

have_service() {
    PATH=$PATH:/usr/sbin command -v "$1" >/dev/null
}

have_postgres() {
    compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null || command -v postgres >/dev/null
}

install_postgres() {
    # Debian's package would make a database and start it at every boot. The tests start their own.
    local file=/etc/postgresql-common/createcluster.conf as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    scripts/apt-install.sh postgresql-common &&
        "${as_root[@]}" sed -i 's/^#*\s*create_main_cluster\s*=.*/create_main_cluster = false/' "$file" &&
        scripts/apt-install.sh postgresql
}

install_chromium() {
    # Ubuntu has Chromium as a snap only, which containers cannot run: there playwright brings its own.
    if grep -qs '^ID=ubuntu' /etc/os-release; then
        [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null || return 1
        .venv/bin/python -m playwright install --with-deps chromium
    else
        scripts/apt-install.sh "$1"
    fi
}

install_typescript() {
    # Into .venv, as all that the tests need; the versions are those of the package for npm.
    command -v npm >/dev/null && mkdir -p .venv/npm && cp packaging/npm/package.json .venv/npm &&
        npm install --prefix .venv/npm --ignore-scripts --no-audit --no-fund --loglevel=error &&
        touch .venv/npm/node_modules
}

command -v redis-server >/dev/null || scripts/apt-install.sh redis-server || missing+=(redis-server)
have_postgres || install_postgres || missing+=(postgresql)
have_chromium || install_chromium chromium || missing+=(chromium)
have_shell || install_chromium chromium-headless-shell || echo "Going on without chromium-headless-shell" >&2

services=()
have_service nginx || services+=(nginx-light)
have_service haproxy || services+=(haproxy)
have_service apache2 || services+=(apache2-bin)
have_service varnishd || services+=(varnish)
have_service caddy || services+=(caddy)
have_service promtool || services+=(prometheus)
# Not where they would be started as services, for all to see: in a container they are not.
[ ${#services[@]} -eq 0 ] ||
    { [ ! -d /run/systemd/system ] && scripts/apt-install.sh "${services[@]}"; } ||
    echo "Going on without ${services[*]}" >&2

command -v node >/dev/null || scripts/apt-install.sh nodejs || echo "Going on without Node" >&2
[ .venv/npm/node_modules -nt packaging/npm/package.json ] || install_typescript ||
    echo "Going on without TypeScript" >&2

if [ ${#missing[@]} -gt 0 ]; then
    echo "The tests need: ${missing[*]}" >&2
    echo "  Debian:  sudo apt install ${missing[*]}" >&2
    echo "  Ubuntu:  sudo apt install redis-server postgresql && .venv/bin/playwright install --with-deps chromium" >&2
    echo "  macOS:   brew install redis postgresql && .venv/bin/playwright install chromium" >&2
    exit 1
fi
