"""How fast the page is: `python -m tests.web.speed` measures it in Chromium.

Cold: a browser that has nothing of the page yet opens a link, until the newest of 50 messages is
drawn. Scrolling: through 5,000 messages that are loaded, to their beginning and back.
"""

import asyncio
import os
import statistics
import sys
from collections.abc import AsyncIterator

from playwright.async_api import Browser, Page

from chat_server.client import connect, publish_all
from tests.rig.chromium import chromium
from tests.rig.server import ServerProcess, mint

COLD, MANY = 50, 5_000
GENEROUS = {
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "100000",
    "CHAT_LIMITS__MESSAGE_BURST": "100000",
    "CHAT_NAMESPACES__ROOM__HISTORY_SIZE": "6000",
}
FIRST = """last => new Promise((done) => {
  const look = () => {
    const rows = [...document.querySelectorAll("#log > .message .text")];
    if (rows.at(-1)?.textContent !== last) requestAnimationFrame(look);
    else requestAnimationFrame(() => setTimeout(() => done(performance.now())));
  };
  look();
})"""
LOAD_ALL = """async () => {
  const scroller = document.querySelector("#scroller");
  const frame = () => new Promise(requestAnimationFrame);
  while (![...document.querySelectorAll("#log .text")].some((text) => text.textContent === "m1.")) {
    scroller.scrollTop = 0;
    await frame();
  }
}"""
SCROLL = """async ([by, last]) => {
  const scroller = document.querySelector("#scroller");
  const long = [];
  new PerformanceObserver((list) => long.push(...list.getEntries().map(({ duration }) => duration)))
    .observe({ entryTypes: ["longtask"] });
  const gaps = [];
  let [before, most] = [performance.now(), 0];
  const texts = document.querySelector("#log").getElementsByClassName("text");
  const isThere = () => [...texts].some((text) => text.textContent === last);
  for (let count = 0; count < 20_000; count += 1) {
    scroller.scrollTop += by;
    const now = await new Promise(requestAnimationFrame);
    gaps.push(now - before);
    before = now;
    most = Math.max(most, document.querySelectorAll("#log > *").length);
    if (count % 20 === 0 && isThere()) break;
  }
  return { gaps, long, most, nodes: document.querySelectorAll("*").length };
}"""


async def fill(server: ServerProcess, room: str, count: int) -> None:
    """Publish messages `m1.`, `m2.`, …"""

    async def items() -> AsyncIterator[object]:
        for number in range(1, count + 1):
            yield {"text": f"m{number}."}

    async with connect(server.url, token=mint("bob")) as chat:
        async for _ in publish_all(chat, f"room:{room}", items()):
            pass


async def cold(browser: Browser, url: str) -> tuple[float, int]:
    """Return the milliseconds until the newest message is drawn, and the requests up to then."""
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(f"{url}/#token={mint('alice')}&room=cold", wait_until="commit")
    took = await page.evaluate(FIRST, f"m{COLD}.")
    requests = await page.evaluate("performance.getEntriesByType('resource').length")
    await context.close()
    return took, requests


async def scrolling(page: Page, by: int, last: str) -> None:
    """Print how smoothly the page scrolls by so many pixels a frame, up to a message."""
    found = await page.evaluate(SCROLL, [by, last])
    gaps = sorted(found["gaps"])
    late = sum(gap > 50 for gap in gaps)
    print(
        f"{by:+} px a frame: {len(gaps)} frames, median {statistics.median(gaps):.1f} ms, "
        f"p99 {gaps[int(len(gaps) * 0.99)]:.1f} ms, most {gaps[-1]:.1f} ms, {late} above 50 ms; "
        f"{len(found['long'])} long tasks, the longest {max(found['long'], default=0):.0f} ms; "
        f"at most {found['most']} rows, {found['nodes']} elements in the document"
    )


async def main(rounds: int) -> None:
    """Measure, and print."""
    server = ServerProcess(environ=GENEROUS)
    await asyncio.to_thread(server.__enter__)
    try:
        await fill(server, "cold", COLD)
        await fill(server, "many", MANY)
        async with chromium() as browser:
            took = [await cold(browser, server.url) for _ in range(rounds)]
            times = sorted(time for time, _ in took)
            print(
                f"cold: median {statistics.median(times):.0f} ms, "
                f"{times[0]:.0f} to {times[-1]:.0f} ms "
                f"of {rounds}, {took[0][1]} requests; load {os.getloadavg()[0]:.1f}"
            )
            page = await (await browser.new_context()).new_page()
            await page.goto(f"{server.url}/#token={mint('alice')}&room=many")
            await page.evaluate(FIRST, f"m{MANY}.")
            await page.evaluate(LOAD_ALL)
            await page.get_by_role("button", name="Newest messages").click()
            await scrolling(page, -60, "m1.")
            await scrolling(page, 60, f"m{MANY}.")
            await scrolling(page, -600, "m1.")
            print(f"load {os.getloadavg()[0]:.1f}")
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 11))
