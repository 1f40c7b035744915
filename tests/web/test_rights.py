"""What the page tells whoever may not write or read, and whose sign-in ends soon."""

from playwright.async_api import expect

from tests.rig.server import ServerProcess
from tests.web.conftest import Visit, running

READ_ONLY = "You may only read here"
ASKED = "Write a message as \u2068alice\u2069"


async def test_where_presence_is_off_nobody_is_counted(visit: Visit) -> None:
    alice = await visit("alice", "unsocial")
    await alice.say("hello")
    await alice.sees(["hello"])
    await expect(alice.page.locator("#people-button")).to_be_hidden()


async def test_who_may_not_write_is_told_where_one_writes(visit: Visit) -> None:
    # Of a token that names no rooms only the server knows.
    async with running(environ={"CHAT_AUTH__DEFAULT_TOPICS__PUBLISH": "[]"}) as server:
        alice = await visit("alice", "read-only", at=server)
        await expect(alice.field).to_have_attribute("placeholder", ASKED)
        await alice.say("may I?")
        await expect(alice.field).to_have_attribute("placeholder", READ_ONLY)
        await alice.outbox.get_by_role("button", name="Delete").click()
        await alice.go("other")
        await expect(alice.field).to_have_attribute("placeholder", ASKED)
        await alice.go("read-only")
        await expect(alice.field).to_have_attribute("placeholder", READ_ONLY)


async def test_whose_token_does_not_allow_to_write_is_told_before(
    visit: Visit, server: ServerProcess
) -> None:
    alice = await visit()
    rights = {"subscribe": ["room:**"], "publish": ["room:*:{sub}", "room:open:**"]}
    await alice.sign_in("alice", "news", **rights)
    for room, told in (
        ("news", READ_ONLY),
        ("news:alice", ASKED),
        ("news:bob", READ_ONLY),
        ("a:b:alice", READ_ONLY),
        ("open", READ_ONLY),
        ("open:any:thing", ASKED),
    ):
        await alice.go(room)
        await expect(alice.field).to_have_attribute("placeholder", told)
    bob = await visit()
    await bob.sign_in("bob+test@example.org", "closed", subscribe=[], publish=["room:{sub}"])
    await expect(bob.field).to_have_attribute("placeholder", "You are not allowed to write here.")
    await bob.go("bob~2Btest@example.org")
    own = "Write a message as \u2068bob+test@example.org\u2069"
    await expect(bob.field).to_have_attribute("placeholder", own)


async def test_who_may_neither_read_nor_write_is_told_so(visit: Visit) -> None:
    alice = await visit()
    denied = "You are not allowed to write here."
    await alice.sign_in("alice", "closed", subscribe=[], publish=[])
    await expect(alice.page.locator("#room-error")).to_have_text(
        "#closed: You are not allowed to read here. Your token allows you to read nothing."
    )
    await expect(alice.field).to_have_attribute("placeholder", denied)
    await alice.say("may I?")
    await expect(alice.outbox).to_contain_text(f"Not sent. {denied} Try again")
    await expect(alice.field).to_have_attribute("placeholder", denied)
    await alice.outbox.get_by_role("button", name="Delete").click()


async def test_the_end_of_a_sign_in_is_told_before(visit: Visit) -> None:
    alice = await visit()
    await alice.sign_in("alice", "ending", ttl_seconds=100)
    await expect(alice.page.locator("#ending")).to_contain_text("Your sign-in ends at")
