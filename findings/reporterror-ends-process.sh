#!/usr/bin/env bash
# reportError() in Deno 2.9.6 and Bun 1.4.5 ends the process with exit code 1.
#
# Expected: as in a browser's page or worker, the error is shown, and the script and its timers go on. A
# library reports so what a callback of the application threw, in order to go on itself.
# Observed: Deno runs not even the next statement. Bun ends the task, runs no timer, and ends.
# It matters to who feature-detects the function: Node has none, so code that takes `reportError` where
# there is one and `console.error` elsewhere survives in Node, and ends in these two. A listener of the event
# `error` that calls `preventDefault()` saves a process of Deno, and not one of Bun.
# Exits with 1 when that changes.
set -euo pipefail
command -v npm >/dev/null || { echo "npm is missing"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"type": "module"}' >package.json
npm install --silent --no-audit --no-fund deno@2.9.6 bun@1.4.5
cat >plain.js <<'JAVASCRIPT'
setTimeout(() => console.log("timer"), 100);
globalThis.reportError(new Error("of a callback"));
console.log("next");
JAVASCRIPT
cat >prevented.js <<'JAVASCRIPT'
globalThis.addEventListener("error", (event) => event.preventDefault());
await import("./plain.js");
JAVASCRIPT
observed=""
for script in plain prevented; do
    for run in "deno run" bun; do
        code=0
        said=$(node_modules/.bin/$run $script.js 2>/dev/null) || code=$?
        observed+="$script ${run% *}: [${said//$'\n'/ }] exit code $code"$'\n'
    done
done
node_modules/.bin/deno --version | head -1
echo "bun $(node_modules/.bin/bun --version)"
echo "$observed"
expected="plain deno: [] exit code 1
plain bun: [next] exit code 1
prevented deno: [next timer] exit code 0
prevented bun: [next] exit code 1
"
[ "$observed" = "$expected" ]
