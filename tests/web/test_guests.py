"""Coming in by a name and a colour, in development only."""

from playwright.async_api import expect

from tests.web.conftest import Visit, running
from tests.web.test_accessibility import assert_clean
from tests.web.test_sign_in import production

EVIL = "<img src=x onerror=alert(1)>\u202e"


async def test_a_name_and_a_colour_are_enough(visit: Visit) -> None:
    guest, other = await visit(), await visit("alice", "lobby")
    await guest.page.get_by_text("Come in as a guest").click()
    await guest.page.get_by_label("What shall others call you?").fill(EVIL)
    await guest.page.get_by_label("Your colour").fill("120")
    await assert_clean(guest.page)
    await guest.page.get_by_role("button", name="Come in", exact=True).click()
    await guest.online()
    await guest.say("hello")
    sender = other.log.last.locator(".sender")
    await expect(sender).to_have_text(EVIL.replace("\u202e", "\ufffd"))
    await expect(other.log.last.locator(".avatar")).to_have_attribute("style", "--hue: 120;")
    await guest.page.reload()
    await guest.sees(["hello"])


async def test_in_production_there_are_no_guests(visit: Visit) -> None:
    async with running(environ=production()) as server:
        nobody = await visit(at=server)
        await expect(nobody.page.get_by_label("Token")).to_be_visible()
        await expect(nobody.page.get_by_text("Come in as a guest")).to_be_hidden()
        nobody.refusals = (404,)
        answer = await nobody.page.evaluate(
            """() => fetch("/dev/token", { method: "POST", body: '{"name":"eve"}' })
                .then(({ status }) => status)"""
        )
        assert answer == 404
