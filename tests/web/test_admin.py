"""The page for operators: who gets in, what they see and order, and what users cannot do to it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, Route, expect
from websockets.exceptions import InvalidStatus

from chat_server import __version__
from chat_server.accounts.administration import Administration
from chat_server.clock import SystemClock
from chat_server.database.database import Database
from tests.rig.chat_client import Chat, chat
from tests.rig.preloaded import PreloadedServer
from tests.rig.server import ServerProcess, mint
from tests.rig.tokens import forge
from tests.rig.waiting import until_async
from tests.web.conftest import GENEROUS, running
from tests.web.test_accessibility import assert_clean
from tests.web.test_accounts import PASSWORD, environ_of, fill, settings_of
from tests.web.visitor import Visitor

EVIL = "<img src=x onerror=alert(1)>\u202e" + "e" * 200
SHOWN = "<img src=x onerror=alert(1)>\ufffd" + "e" * 171
"""In one line of 200 characters at most, which cannot rearrange what stands around it."""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    environ = {"CHAT_HTTP__ADMIN_PAGE": "true", "CHAT_METRICS__ENABLED": "true", **GENEROUS}
    with PreloadedServer(environ=environ) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def olga(browser: Browser, server: ServerProcess) -> AsyncIterator[Visitor]:
    async with Visitor.arrive(browser, server.url) as visitor:
        yield visitor


def operator() -> str:
    """Return the token of one who may do everything."""
    return mint("olga", admin=["**"], subscribe=["**"], history=["**"])


async def enter(page: Page, server: ServerProcess, token: str) -> None:
    await page.goto(f"{server.url}/admin")
    await page.get_by_role("textbox", name="Token").fill(token)
    await page.get_by_role("button", name="Open with the token").click()


async def show(page: Page, view: str) -> None:
    await page.get_by_role("navigation").get_by_role("link", name=view).click()


def row(page: Page, text: str) -> Locator:
    return page.get_by_role("row").filter(has_text=text)


async def order(page: Page, button: Locator, reason: str) -> Locator:
    """Give the order that a button asks for, and return what is answered."""
    await button.click()
    dialog = page.get_by_role("dialog").last
    await dialog.get_by_label("Reason").fill(reason)
    await page.keyboard.press("Enter")
    answer = page.locator("#order-answer")
    await expect(answer).to_contain_text("Obeyed")
    return answer


async def subscribed(server: ServerProcess, stack: AsyncExitStack, user: str, topic: str) -> Chat:
    client = await stack.enter_async_context(await chat(server.ws_url, mint(user)))
    await client.ok(type="subscribe", topic=topic)
    return client


async def test_an_operator_sees_disconnects_blocks_and_unblocks(
    olga: Visitor, server: ServerProcess
) -> None:
    page = olga.page
    async with AsyncExitStack() as stack:
        ann = await subscribed(server, stack, "ann", "room:ops")
        bob = await subscribed(server, stack, "bob", "room:ops")
        await enter(page, server, operator())
        await expect(page.locator("#state")).to_have_text("The server is ok")
        await expect(page.locator("#nodes")).to_contain_text("serving")
        for label in ("Connections", "Messages in", "Messages out", "Event loop late by", "Store"):
            await expect(page.get_by_role("img", name=f"{label}: ")).to_be_visible()
        store = page.get_by_role("img", name="Store: ok now, worst ok")
        await expect(store).to_be_visible()
        await show(page, "Connections")
        await page.get_by_label("Topic", exact=True).first.fill("room:ops")
        await page.locator("#connections-form button").click()
        await expect(page.locator("#connections-list tbody tr")).to_have_count(2)

        cut = row(page, "ann").get_by_role("button", name="Disconnect")
        answer = await order(page, cut, "too loud")
        await expect(answer).to_contain_text("1 connection")
        assert await ann.closed() == 4403
        await page.keyboard.press("Enter")

        async def gone() -> bool:
            # The server may still be closing it.
            await page.get_by_role("button", name="Refresh").click()
            return await row(page, "ann").count() == 0

        await until_async(gone)

        block = row(page, "bob").get_by_role("button", name="Block")
        answer = await order(page, block, "spam")
        assert await bob.closed() == 4403
        await expect(answer).to_contain_text("Until")
        await expect(answer).not_to_contain_text("already")
        await page.keyboard.press("Enter")
        with pytest.raises(InvalidStatus, match="403"):
            await chat(server.ws_url, mint("bob"))

        await show(page, "Kept out")
        await expect(row(page, "bob")).to_contain_text("spam")
        await expect(row(page, "bob")).to_contain_text("olga")
        await order(page, row(page, "bob").get_by_role("button", name="Unblock"), "sorry")
        await page.keyboard.press("Enter")
        await expect(page.locator("#out-list")).to_contain_text("Nobody and nothing.")
        await subscribed(server, stack, "bob", "room:ops")


async def test_an_order_that_finds_it_so_already_says_so(
    olga: Visitor, server: ServerProcess
) -> None:
    page = olga.page
    await enter(page, server, operator())
    await show(page, "Orders")
    for title, told in (
        ("Unblock a user", "The user was not blocked. Nothing has changed."),
        ("Block a user", "Obeyed"),
        ("Block a user", "The user was blocked already."),
        ("Unblock a user", "Obeyed"),
    ):
        await page.get_by_role("button", name=f"{title}…", exact=True).click()
        await page.get_by_role("dialog").get_by_label("User").fill("twice")
        await page.get_by_role("dialog").get_by_label("Reason").fill("a test")
        await page.keyboard.press("Enter")
        answer = page.locator("#order-answer")
        await expect(answer).to_contain_text(told)
        assert ("was" in await answer.inner_text()) == ("was" in told)
        await page.keyboard.press("Enter")


async def test_an_order_that_is_refused_or_lost_says_so(
    olga: Visitor, server: ServerProcess
) -> None:
    page = olga.page
    olga.refusals = (400,)
    await enter(page, server, operator())
    await show(page, "Orders")
    await page.get_by_role("button", name="Block a user…", exact=True).click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("User").fill("olga")
    await dialog.get_by_label("Reason").fill("tired")
    await dialog.get_by_role("button", name="Block a user").click()
    told = dialog.get_by_role("alert")
    await expect(told).to_contain_text("an operator cannot block himself")
    await page.route("**/api/admin/block", lambda route: route.abort("connectionreset"))
    await dialog.get_by_label("User").fill("nobody")
    await dialog.get_by_role("button", name="Block a user").click()
    await expect(told).to_contain_text("Nobody knows whether it was carried out")
    olga.faults[:] = [each for each in olga.faults if "Failed to load resource" not in each]


async def test_a_token_without_the_grant_shows_nothing(
    olga: Visitor, server: ServerProcess
) -> None:
    page = olga.page
    olga.refusals = (401, 403)
    told = page.get_by_role("alert")
    for token, why in (
        (mint("eve", subscribe=["**"], moderate=["**"]), "does not have the grant admin"),
        (forge(exp=1, topics={"admin": ["**"]}), "Your token is not accepted"),
        ("no token at all", "three parts"),
    ):
        await enter(page, server, token)
        await expect(told).to_contain_text(why)
        await expect(page.locator("#page")).to_be_hidden()
        assert await page.evaluate("sessionStorage.length + localStorage.length") == 0


async def test_a_token_stays_in_its_tab_until_the_end(olga: Visitor, server: ServerProcess) -> None:
    page = olga.page
    await enter(page, server, operator())
    await expect(page.locator("#me")).to_have_text("olga")
    await page.reload()
    await expect(page.locator("#me")).to_have_text("olga")
    assert await page.evaluate("localStorage.length") == 0
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("textbox", name="Token")).to_be_visible()
    assert await page.evaluate("sessionStorage.length") == 0


async def test_an_operator_of_some_topics_sees_those(olga: Visitor, server: ServerProcess) -> None:
    page = olga.page
    olga.refusals = (403,)
    async with AsyncExitStack() as stack:
        await subscribed(server, stack, "ann", "room:mine")
        await subscribed(server, stack, "ann", "room:others")
        await enter(page, server, mint("olga", admin=["room:mine"], subscribe=["room:**"]))
        await expect(page.locator("#nodes-note")).to_contain_text("for some topics only")
        await expect(page.get_by_role("link", name="Kept out")).to_be_hidden()
        await show(page, "Orders")
        await expect(page.get_by_role("button", name="Close a topic…")).to_be_visible()
        await expect(page.get_by_role("button", name="Block a user…")).to_be_hidden()
        await show(page, "Connections")
        await expect(page.locator("#connections-list")).to_contain_text("for some topics only")
        await show(page, "Topics")
        await expect(row(page, "room:mine")).to_be_visible()
        await expect(row(page, "room:others")).to_have_count(0)
        await row(page, "room:mine").get_by_role("button", name="Who").click()
        await expect(row(page, "ann")).to_have_count(1)
        await expect(row(page, "ann").get_by_role("button")).to_have_text("Unsubscribe…")
        unsubscribe = row(page, "ann").get_by_role("button", name="Unsubscribe")
        await expect(await order(page, unsubscribe, "calm down")).to_contain_text("1 connection")


async def test_a_worker_that_does_not_answer_is_shown_with_since_when(
    olga: Visitor, server: ServerProcess
) -> None:
    page = olga.page

    async def lose_one(route: Route) -> None:
        answer = await route.fetch()
        told = await answer.json()
        told |= {"missing": ["host-1-a", "host-2-b"], "silent": {"host-1-a": 41.4}}
        await route.fulfill(response=answer, json=told)

    await page.route("**/api/admin/nodes", lose_one)
    await page.route("**/api/admin/topics**", lose_one)
    await enter(page, server, operator())
    await expect(row(page, "host-1-a")).to_contain_text("does not answer (last heard 41 s ago)")
    await expect(row(page, "host-2-b")).to_contain_text("does not answer")
    await show(page, "Topics")
    told = "Not answered: host-1-a (last heard 41 s ago), host-2-b."
    await expect(page.locator("#topics-list")).to_contain_text(told)


async def test_what_is_refused_is_counted_by_reason(olga: Visitor, server: ServerProcess) -> None:
    page = olga.page
    await enter(page, server, operator())
    await expect(page.locator("#nodes").get_by_role("row")).to_have_count(2)
    await expect(page.locator("#refused")).to_be_empty()

    async def told() -> bool:
        # The first that the page reads is where it counts from.
        with pytest.raises(InvalidStatus):
            await chat(server.ws_url, forge(key="an-old-key-of-the-issuer-that-was-replaced"))
        return "tokens by signature" in await page.locator("#refused").inner_text()

    await until_async(told)


OF_TWO_SERVERS = """async () => {
  const { Numbers, Refusals, sums } = await import("/admin/admin-numbers.js");
  const text = (start, count) => [
    `chat_process_start_seconds{worker="1"} ${start}`,
    `chat_tokens_refused_total{reason="signature"} ${count}`,
    `chat_messages_received_total ${count}`,
  ].join("\\n");
  const [numbers, refusals] = [new Numbers(), new Refusals()];
  const answers = [[1, 7], [2, 1000], [1, 8], [1, 10], [2, 1001], [2, 1002]];
  const told = answers.map(([start, count], at) => {
    numbers.add(1000 * at, null, null, sums(text(start, count)));
    return refusals.add(1000 * at, text(start, count));
  });
  return [told.at(-1), numbers.lines.received.map(([, value]) => value)];
}"""


async def test_the_difference_of_two_servers_is_no_growth(
    olga: Visitor, server: ServerProcess
) -> None:
    """As behind a balancer, where each answer may be another server's."""
    await olga.page.goto(f"{server.url}/admin")
    refused, received = await olga.page.evaluate(OF_TWO_SERVERS)
    assert refused == [["tokens by signature", 3]]
    assert received == [None, None, None, 2, None, 1]


async def test_a_worker_that_is_cut_off_shows_what_its_server_knows(
    olga: Visitor, server: ServerProcess
) -> None:
    page = olga.page

    async def away(route: Route) -> None:
        told = {"status": 503, "code": "unavailable", "detail": "the message store is away"}
        await route.fulfill(status=503, json=told)

    async def deaf(route: Route) -> None:
        answer = await route.fetch()
        told = await answer.json()
        told["workers"] = [
            {**told["workers"][0], "status": "deaf", "checks": {"broker": {"status": "deaf"}}},
            {"worker": 2, "status": "silent"},
        ]
        await route.fulfill(response=answer, json=told)

    await page.route("**/api/admin/nodes", away)
    await page.route("**/health", deaf)
    await enter(page, server, operator())
    note = "The worker that answers cannot ask the others. These are those of this server"
    await expect(page.locator("#nodes-note")).to_contain_text(note)
    await expect(row(page, "worker 2").get_by_role("cell")).to_have_text(
        ["worker 2", __version__, "–", "–", "–", "silent"]
    )
    await expect(row(page, "deaf").get_by_role("cell").last).to_have_text("deaf")
    olga.faults[:] = [each for each in olga.faults if "503" not in each]


async def test_a_server_that_is_away_is_told(olga: Visitor, server: ServerProcess) -> None:
    page = olga.page
    await enter(page, server, operator())
    await expect(page.locator("#state")).to_have_text("The server is ok")
    await page.context.set_offline(True)
    await expect(page.locator("#state")).to_have_text("The server does not answer")
    await page.context.set_offline(False)
    await expect(page.locator("#state")).to_have_text("The server is ok")
    olga.faults[:] = [each for each in olga.faults if "ERR_INTERNET_DISCONNECTED" not in each]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 340)])
async def test_every_view_is_accessible_and_holds_what_users_chose(
    browser: Browser, server: ServerProcess, scheme: str, width: int
) -> None:
    screen = {"width": width, "height": 700}
    topic = f"room:axe-{width}"
    async with (
        AsyncExitStack() as stack,
        Visitor.arrive(browser, server.url, color_scheme=scheme, viewport=screen) as visitor,
    ):
        page = visitor.page
        evil = await subscribed(server, stack, EVIL, topic)
        for data in ("\u202e<b>" + "x" * 30_000, {"any": "data"}):
            await evil.ok(type="publish", topic=topic, data=data)

        async def check() -> None:
            await assert_clean(page)
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert await page.locator("img").count() == 0

        await page.goto(f"{server.url}/admin")
        await check()
        await enter(page, server, operator())
        await expect(page.locator("#nodes")).to_contain_text("serving")
        await check()
        await show(page, "Topics")
        await row(page, topic).get_by_role("button", name="Watch").click()
        await expect(page.locator("#live-log li")).to_have_count(2)
        await expect(page.locator("#live-log bdi").first).to_have_text(SHOWN)
        await check()
        await show(page, "Explain")
        await page.locator("#explain").get_by_label("Topic").fill(topic)
        await page.get_by_label("Seq").fill("1")
        await page.locator("#explain").get_by_label("User").fill(EVIL)
        await page.keyboard.press("Enter")
        await expect(page.locator("#explained")).to_contain_text("sent")
        await check()
        await show(page, "Connections")
        await row(page, SHOWN).get_by_role("button", name="Details").click()
        await expect(page.locator("#detail-content")).to_contain_text("Token ends")
        await check()
        answer = await order(page, page.locator("#detail-content li button"), "a test")
        await expect(answer).to_contain_text("1 connection")
        await check()
        assert (await evil.next())["topic"] == topic


async def test_a_topic_that_the_token_does_not_allow_is_not_watched(
    olga: Visitor, server: ServerProcess
) -> None:
    page = olga.page
    async with AsyncExitStack() as stack:
        await subscribed(server, stack, "ann", "room:closed")
        await enter(page, server, mint("olga", admin=["**"], subscribe=[]))
        await show(page, "Topics")
        await row(page, "room:closed").get_by_role("button", name="Watch").click()
        await expect(page.locator("#live-state")).to_contain_text("Ended: ")


async def test_an_account_whose_role_is_an_operators_gets_in(
    browser: Browser, tmp_path: Path
) -> None:
    environ = {
        **environ_of(tmp_path, "invited"),
        "CHAT_ACCOUNTS__ROLES__CHIEF__ADMIN": '["**"]',
        "CHAT_HTTP__ADMIN_PAGE": "true",
    }
    async with running(environ=environ) as server:
        settings = await asyncio.to_thread(settings_of, environ)
        database = Database(settings.database)
        await database.start()
        inviting = Administration(settings, database, SystemClock())
        invitation = (await inviting.invite(["chief"])).token
        await database.stop()
        async with Visitor.arrive(browser, server.url) as visitor:
            page = visitor.page
            await page.goto(f"{server.url}/#invitation={invitation}")
            await fill(page, "olga")
            await visitor.online()
            await page.goto(f"{server.url}/admin")
            await expect(page.locator("#nodes")).to_contain_text("serving")
            await expect(page.locator("#numbers-note")).to_contain_text("metrics.enabled is off")
            assert await page.evaluate("sessionStorage.getItem('chat.admin')") is None
            await page.get_by_role("button", name="Sign out").click()
            await page.get_by_label("Name").fill("olga")
            await page.get_by_label("Password").fill(PASSWORD)
            await page.get_by_role("button", name="Sign in", exact=True).click()
            await expect(page.locator("#nodes")).to_contain_text("serving")
