#!/usr/bin/env bash
# Playwright 1.65.2 for Python with Chromium (seen with 156): `wait_for_function` with an expression, on a page
# whose Content-Security-Policy allows no `eval`, works only if the expression is true at the first look.
#
# Expected: it waits as on any page, or says at once that such a page needs a function.
# Observed: true at the first look, it returns. False at first, the second look raises EvalError. The same
# condition as an arrow function is awaited on both pages.
# It matters to who tests a page with a strict policy: the test passes on a quick machine, and falls, as if
# the page were at fault, whenever the condition comes a moment later.
# Exits with 1 when that changes.
set -euo pipefail
command -v chromium >/dev/null || { echo "chromium is missing"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet playwright==1.65.2
"$folder/bin/python" - "$(command -v chromium)" <<'PYTHON'
import asyncio
import sys
from functools import partial

from playwright.async_api import Error, async_playwright

SOON = "() => { window.ready = false; setTimeout(() => { window.ready = true; }, 500); }"


async def outcome(page, predicate: str) -> str:
    try:
        await page.wait_for_function(predicate, timeout=20_000)
    except Error as error:
        return "EvalError" if "EvalError" in error.message else error.message
    return "came"


async def give(policy: str, route, request) -> None:
    headers = {"Content-Type": "text/html"} | ({"Content-Security-Policy": policy} if policy else {})
    await route.fulfill(body="page", headers=headers)


async def main() -> int:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=sys.argv[1], args=["--no-sandbox"])
        observed = []
        for policy in ("", "default-src 'self'"):
            page = await browser.new_page()
            await page.route("**/*", partial(give, policy))
            await page.goto("http://page.example/")
            await page.evaluate("() => { window.ready = true; }")
            observed.append((policy, "true at once", await outcome(page, "window.ready")))
            for predicate in ("window.ready", "() => window.ready"):
                await page.evaluate(SOON)
                observed.append((policy, predicate, await outcome(page, predicate)))
        print("Chromium", browser.version)
        for line in observed:
            print(*line, sep=" | ")
        await browser.close()
        return int([came for *_, came in observed] != [*["came"] * 4, "EvalError", "came"])


sys.exit(asyncio.run(main()))
PYTHON
