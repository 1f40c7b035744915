"""Pages that are used again.

Most of a visit is the load of the page: more than fifty modules, each in a request of its own. A
sign-in on a page that is loaded already, and that somebody else has signed out of, takes a tenth of
the processor time.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, ViewportSize

from tests.rig.server import ServerProcess
from tests.web.visitor import Visitor

WINDOW = ViewportSize(width=1280, height=720)
"""The size of a window in pixels, unless a test wants another."""

SIGN_OUT = """async () => {
  const [chat, leave, ask, yes] = ["chat", "sign-out", "ask", "yes"]
    .map((id) => document.getElementById(id));
  if (!chat.hidden) leave.click();
  if (ask.open) {
    const asked = new Promise((done) => ask.addEventListener("close", done, { once: true }));
    yes.click();
    await asked;
  }
  sessionStorage.removeItem("chat.room");
  history.replaceState(null, "", "/");
}"""
"""Leave the page as its user would, and discard what was not sent."""

LOOK = """() => {
  const copy = document.documentElement.cloneNode(true);
  // The next sign-in, or whatever opens them, sets these anew.
  const replaced = "#heading, #rooms-known, #me, #empty, #newer, #actions, #guest-form";
  copy.querySelectorAll(`${replaced}, dialog:not([open])`).forEach((node) => node.remove());
  copy.querySelector("#text").removeAttribute("placeholder");
  const history = copy.querySelector("#history");
  for (const name of ["aria-busy", "aria-live"]) history.removeAttribute(name);
  const fields = [...document.querySelectorAll("input:not([type=range]), textarea")];
  const names = [window, document].map(Object.getOwnPropertyNames);
  const ofAxe = ["axe", "__core-js_shared__", "elementsFromPoint"];
  const isOwn = (one) => typeof one === "function" && !/\\[native code\\] }$/.test(text.call(one));
  const text = Function.prototype.toString;
  const replacedOf = (one) => Object.entries(Object.getOwnPropertyDescriptors(one))
    .filter(([, { value, get, set }]) => [value, get, set].some(isOwn)).map(([name]) => name);
  const interfaces = names[0].map((name) => window[name]?.prototype).filter(Boolean);
  return JSON.stringify([
    copy.outerHTML,
    fields.map(({ value }) => value),
    names.map((all) => all.filter((name) => !ofAxe.includes(name)).sort()),
    [innerWidth, innerHeight, matchMedia("(prefers-color-scheme: dark)").matches],
    [navigator.onLine, document.activeElement.id],
    [localStorage, sessionStorage].map(Object.keys),
    [window, document, ...interfaces].flatMap(replacedOf),
  ]);
}"""
"""Return all that a test could find of an earlier visitor.

That is what the page shows, its fields, its storage, the names that scripts of tests have defined,
and the browser's functions that such scripts or the browser's driver have replaced.
"""


class Pages:
    """Loaded pages of a server that nobody is signed in on."""

    def __init__(self, browser: Browser, server: ServerProcess) -> None:
        self._browser = browser
        self._url = server.url
        self._free: list[Visitor] = []
        self._new = ""
        """How a page looks that was just loaded."""

    @asynccontextmanager
    async def visitor(self, viewport: ViewportSize) -> AsyncIterator[Visitor]:
        """Lend a page, and keep the page if it looks like a new one afterwards."""
        visitor = self._free.pop() if self._free else await self._load()
        if viewport != WINDOW:
            await visitor.page.set_viewport_size(viewport)
        yield visitor
        if await self._is_like_new(visitor):
            self._free.append(visitor)
        else:
            await visitor.page.context.close()
        faults, visitor.faults = visitor.faults, []
        visitor.refusals, visitor.expected = (), None
        assert faults == []

    async def close(self) -> None:
        """Close all pages."""
        for visitor in self._free:
            await visitor.page.context.close()

    async def _load(self) -> Visitor:
        context = await self._browser.new_context(viewport=WINDOW)
        visitor = Visitor(await context.new_page(), self._url)
        await visitor.page.goto(self._url)
        self._new = self._new or await visitor.page.evaluate(LOOK)
        return visitor

    async def _is_like_new(self, visitor: Visitor) -> bool:
        page = visitor.page
        if page.is_closed() or len(page.context.pages) > 1 or not page.url.startswith(self._url):
            return False
        await page.unroute_all()
        await page.set_viewport_size(WINDOW)
        await page.evaluate(SIGN_OUT)
        look: str = await page.evaluate(LOOK)
        return look == self._new
