"""Markup in messages: what it means, and that it is nothing but text and harmless links."""

import re
import shutil
import subprocess
from pathlib import Path

from playwright.async_api import expect

from chat_server.client import connect
from tests.rig.node import WEB, environment, node
from tests.rig.server import ServerProcess, mint
from tests.web.conftest import Visit
from tests.web.test_text import height, post

HERE = Path(__file__).parent
SECONDS = 240
EVIL = "<img src=x onerror=alert(1)>"
ANSWER = f"""Of **two** ways, _one_ is `{EVIL}`:

1. see https://example.com/a?b=c.
2. or mailto:bob@example.com, not javascript:alert(1)

- {EVIL}
  - [click](javascript:alert(1))

> {EVIL} https://example.com/"onmouseover="alert(1)

```html
{EVIL}
```
and **so on"""


def test_parser(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"type": "module"}')
    for path in (WEB / "markup.js", HERE / "markup.test.mjs"):
        shutil.copy(path, tmp_path)
    done = subprocess.run(
        [node(), "--test", "--test-reporter=spec", "markup.test.mjs"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 0" not in done.stdout, "it has no tests"


async def test_markup_is_shown_as_what_it_means(visit: Visit, server: ServerProcess) -> None:
    await post(server, "markup", {"text": ANSWER}, "eve", EVIL)
    alice = await visit("alice", "markup")
    text = alice.log.locator(".text")
    await expect(text.locator("strong")).to_have_text("two")
    await expect(text.locator("em")).to_have_text("one")
    await expect(text.locator("code")).to_have_text(EVIL)
    await expect(text.locator("pre")).to_have_text(EVIL)
    await expect(text.locator("ol > li")).to_have_count(2)
    await expect(text.locator("ul > li > ul > li")).to_have_text("[click](javascript:alert(1))")
    await expect(text.locator("blockquote")).to_contain_text(EVIL)
    await expect(text).to_have_text(re.compile(r"and \*\*so on$"))
    links = text.locator("a")
    attributes = "nodes => nodes.map((a) => [a.href, a.target, a.rel])"
    safe = ["_blank", "noopener noreferrer nofollow"]
    assert await links.evaluate_all(attributes) == [
        ["https://example.com/a?b=c", *safe],
        ["mailto:bob@example.com", *safe],
        ["https://example.com/", *safe],
    ]
    await expect(alice.page.locator("img, [onmouseover]")).to_have_count(0)


async def test_a_table_grows_and_fits_a_phone(visit: Visit, server: ServerProcess) -> None:
    alice = await visit("alice", "tables", viewport={"width": 320, "height": 600})
    head = [f"column {number}" for number in range(6)]
    async with (
        connect(server.url, token=mint("eve")) as eve,
        eve.stream("room:tables", {"text": ""}) as answer,
    ):
        await answer.write(f"| {' | '.join(head)} |")
        await expect(alice.log.locator(".text")).to_have_text(re.compile(r"^\| column 0 \|"))
        await answer.write(f"\n|:-:|{'--:|' * 5}\n")
        await expect(alice.page.get_by_role("columnheader")).to_have_text(head)
        await answer.write(f"|{EVIL}|1|2|3|4|5|\n" * 3)
    await expect(alice.log.locator("tr")).to_have_count(4)
    cells = alice.page.get_by_role("cell")
    await expect(cells).to_have_text([EVIL, *"12345"] * 3)
    aligned = "nodes => nodes.slice(0, 2).map((node) => getComputedStyle(node).textAlign)"
    assert await cells.evaluate_all(aligned) == ["center", "end"]
    scrolls = "node => node.tabIndex === 0 && node.scrollWidth > node.clientWidth"
    assert await alice.log.locator(".table").evaluate(scrolls)
    fits = "nodes => nodes.every((n) => n.scrollWidth <= n.clientWidth)"
    assert await alice.page.locator("#scroller, #log .text").evaluate_all(fits)


async def test_markup_of_one_s_own_waits_in_the_same_form(visit: Visit) -> None:
    alice = await visit()
    await alice.sign_in("alice", "own-markup", publish=[])
    await alice.say("**not sent**")
    await expect(alice.outbox.locator("strong")).to_have_text("not sent")


async def test_one_long_word_and_high_accents_stay_in_their_place(
    visit: Visit, server: ServerProcess
) -> None:
    texts = ["x" * 60_000, "Z" + "\u0310" * 10_000, "```\n" + "y" * 9_000, "- " + "z" * 9_000]
    for text in texts:
        await post(server, "words", {"text": text}, "eve", "Eve")
    alice = await visit("alice", "words", viewport={"width": 320, "height": 600})
    await expect(alice.log).to_have_count(len(texts))
    for index in range(len(texts)):
        message = alice.log.nth(index)
        assert await height(message) < 4_000
        await message.get_by_role("button", name="Show all").click()
        await expect(message.get_by_role("button", name="Show less")).to_be_visible()
        assert await height(message) < 1_000
    fits = "nodes => nodes.every((n) => n.scrollWidth <= n.clientWidth)"
    assert await alice.page.locator("#scroller, #log .text").evaluate_all(fits)


async def test_an_address_that_is_cut_is_no_link(visit: Visit, server: ServerProcess) -> None:
    address = "https://example.com/" + "x" * 1_500
    await post(server, "cut", {"text": "y" * 1_950 + " " + address}, "eve", "Eve")
    alice = await visit("alice", "cut")
    await expect(alice.log.locator(".text")).to_have_text(re.compile("…$"))
    await expect(alice.log.locator(".text a")).to_have_count(0)
    await alice.log.get_by_role("button", name="Show all").click()
    await expect(alice.log.locator(".text a")).to_have_text(address)
