"""The page in the language of the browser, and the table that its texts are in."""

import ast
import re
from html.parser import HTMLParser

from playwright.async_api import Browser, expect

from chat_server.http.pages import COMMENT, WEB
from tests.rig.server import ServerProcess, mint
from tests.web.conftest import Visit
from tests.web.test_page import MAX_BYTES, WEIGHT
from tests.web.visitor import Visitor

TABLE = "language-de.js"
TEXT = re.compile(r'"(?:[^"\\\n]|\\.)*"')
CALL = re.compile(r"(?<![\w.])(?:t|parts)\(((?:[^()]|\([^()]*\))*)", re.DOTALL)
NAMES = re.compile(r"\{\w+\}")


def pairs() -> dict[str, str]:
    """Return the table, English to German."""
    literals = [ast.literal_eval(text) for text in TEXT.findall(source(TABLE))]
    assert len(literals) % 2 == 0
    return dict(zip(literals[::2], literals[1::2], strict=True))


def source(name: str) -> str:
    """Return a module without its comments."""
    return COMMENT.sub(b"", (WEB / name).read_bytes()).decode()


KEYS = {"Ctrl"}
"""Keys that bear another name on the keyboards of another language."""


class Shown(HTMLParser):
    """Collects what index.html shows."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: set[str] = set()
        self.exempt = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the attributes that are read, and remember what is no language."""
        self.exempt = tag if tag in ("kbd", "code") else ""
        self.texts |= {text or "" for name, text in attrs if name in ("aria-label", "placeholder")}

    def handle_endtag(self, tag: str) -> None:
        """Go on with what is language."""
        self.exempt = ""

    def handle_data(self, data: str) -> None:
        """Take a text."""
        text = " ".join(data.split())
        if (not self.exempt or text in KEYS) and re.search(r"\w", text):
            self.texts.add(text)


def test_the_table_has_what_the_page_says_and_nothing_else() -> None:
    said = set()
    for path in WEB.glob("*.js"):
        if not path.name.startswith(("client", "docs", "language")):
            for arguments in CALL.findall(source(path.name)):
                said |= {ast.literal_eval(text) for text in TEXT.findall(arguments)}
    shown = Shown()
    shown.feed((WEB / "index.html").read_text("utf-8"))
    assert said | shown.texts == set(pairs()) | {""}


def test_a_translation_has_the_names_of_its_text() -> None:
    for english, german in pairs().items():
        assert sorted(set(NAMES.findall(english))) == sorted(set(NAMES.findall(german))), english


async def test_a_german_browser_shows_a_german_page(
    browser: Browser, server: ServerProcess
) -> None:
    async with Visitor.arrive(browser, server.url, locale="de-AT") as anna:
        page = anna.page
        await page.goto(server.url)
        await expect(page.get_by_role("heading", name="Anmelden")).to_be_visible()
        assert await page.evaluate("document.documentElement.lang") == "de"
        await page.goto("about:blank")
        await anna.follow(mint("anna"), "deutsch")
        await expect(page.locator("#empty")).to_have_text(
            "Hier hat noch niemand geschrieben. Mach den Anfang."
        )
        field = page.get_by_label("Nachricht", exact=True)
        await expect(field).to_have_attribute("placeholder", "Als \u2068anna\u2069 schreiben")
        await field.fill("Servus")
        await field.press("Enter")
        await expect(anna.log.locator(".text")).to_have_text(["Servus"])
        await expect(anna.log.locator(".sender")).to_have_text(["Du"])
        title = await anna.log.locator("time").get_attribute("title")
        assert re.search("tag, [0-9]+\\. ", title or ""), title
        assert await page.evaluate(WEIGHT) <= MAX_BYTES


async def test_other_browsers_load_no_german(visit: Visit) -> None:
    alice = await visit("alice", "english")
    loaded = await alice.page.evaluate(
        "performance.getEntriesByType('resource').map(({ name }) => name)"
    )
    assert not [name for name in loaded if name.endswith(TABLE)]
    assert await alice.page.evaluate("document.documentElement.lang") == "en"
