#!/usr/bin/env bash
# Chromium (seen with 156) under Playwright 1.65.2: context.set_offline(True) holds the data of an open
# WebSocket back. It does not close it, and sends what was held when the context is online again.
#
# Expected: the open WebSocket is closed with an error, as when a network is gone.
# Observed: it stays OPEN without an event. Its message waits, and its echo arrives after set_offline(False).
# It matters to who tests a client's reconnection so: no close event comes, so only a client with a
# heartbeat of its own notices; and a test that waits for "closed" waits in vain.
# Exits with 1 when that changes.
set -euo pipefail
command -v chromium >/dev/null || { echo "chromium is missing"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet playwright==1.65.2 websockets==17.4
"$folder/bin/python" - "$(command -v chromium)" <<'PYTHON'
import asyncio
import sys

from playwright.async_api import async_playwright
from websockets.asyncio.server import serve

PAGE = """url => new Promise(resolve => {
  window.seen = [];
  window.ws = new WebSocket(url);
  ws.onopen = resolve;
  ws.onclose = () => seen.push("closed");
  ws.onmessage = event => seen.push(event.data);
})"""


async def echo(connection) -> None:
    async for message in connection:
        await connection.send(message)


def page_of(connection, request):
    if "Upgrade" not in request.headers:
        response = connection.respond(200, "<title>page</title>")
        response.headers["Content-Type"] = "text/html"
        return response


async def main() -> int:
    async with serve(echo, "127.0.0.1", 0, process_request=page_of) as server, async_playwright() as playwright:
        address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
        browser = await playwright.chromium.launch(executable_path=sys.argv[1], args=["--no-sandbox"])
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(f"http://{address}/")
        await page.evaluate(PAGE, f"ws://{address}/")
        await context.set_offline(True)
        await page.evaluate("ws.send('sent offline')")
        await asyncio.sleep(5)
        offline = await page.evaluate("[navigator.onLine, ws.readyState, seen.join()]")
        await context.set_offline(False)
        await page.wait_for_function("seen.length > 0", timeout=20_000)
        online = await page.evaluate("[navigator.onLine, ws.readyState, seen.join()]")
        print("Chromium", browser.version)
        print("[onLine, readyState, what came] after 5 s offline:", offline, "and online again:", online)
        await browser.close()
        return int(offline != [False, 1, ""] or online != [True, 1, "sent offline"])


sys.exit(asyncio.run(main()))
PYTHON
