"""`/auth/…`, `/users` and `/invitations`: answers, cookies, and pages that must not use them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http.cookies import Morsel, SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from quart import Quart, Request, Response

from chat_server import ChatServer, Identity, User
from chat_server.accounts.administration import Administration
from chat_server.auth.denials import Denial
from chat_server.clock import SystemClock
from chat_server.database import schema
from chat_server.http.callers import REQUESTS_AT_ONCE
from chat_server.settings import DatabaseSettings, Settings
from tests.rig.clock import ManualClock
from tests.rig.server import mint
from tests.server.inprocess import make_settings

from .client import MESSAGES, Client, client, problem
from .test_openapi import assert_complete

PASSWORD = "correct horse"
OWN = {"Origin": "http://localhost"}
ALICE = {"name": "Alice", "password": PASSWORD}
QUICK = {"accounts__hash_memory_kib": 8, "accounts__hash_passes": 1}


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("accounts") / "chat.db"
    asyncio.run(schema.upgrade(DatabaseSettings(url=f"sqlite+aiosqlite:///{file}")))
    return file.read_bytes()


@pytest.fixture
def flags(migrated: bytes, tmp_path: Path) -> dict[str, Any]:
    """What switches accounts on that anybody may make."""
    file = tmp_path / "chat.db"
    file.write_bytes(migrated)
    return {
        "accounts__enabled": "on",
        "accounts__sign_up": "open",
        "database__url": f"sqlite+aiosqlite:///{file}",
        "database__migrate": False,
        **QUICK,
    }


@pytest.fixture
async def http(flags: dict[str, Any]) -> AsyncIterator[Client]:
    async with client(**flags) as http:
        yield http


async def post(http: Client, path: str, body: object, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await http.ask("POST", path, json=body, headers=named)


async def sign_up(http: Client, name: str = "Alice") -> None:
    answer = await post(http, "/users", {"name": name, "password": PASSWORD})
    assert answer.status_code == 201


async def log_in(http: Client, name: str = "Alice", **more: object) -> dict[str, Any]:
    given = {"name": name, "password": PASSWORD, **more}
    answer = await post(http, "/auth/login", given, **OWN)
    assert answer.status_code == 200
    body: dict[str, Any] = await answer.get_json()
    return body


def cookie_of(answer: Response) -> Morsel[str]:
    [morsel] = SimpleCookie(answer.headers["Set-Cookie"]).values()
    return morsel


async def test_signs_up_signs_in_and_talks(http: Client) -> None:
    answer = await post(http, "/users", ALICE)
    assert answer.status_code == 201
    account = await answer.get_json()
    assert (account["id"], account["roles"], account["disabled"]) == ("alice", ["member"], False)
    signed_in = await log_in(http)
    assert signed_in["user"] == account
    assert (signed_in["token_type"], signed_in["expires_in"]) == ("Bearer", 600)
    assert signed_in["refresh_expires_in"] == 2_592_000
    token = signed_in["access_token"]
    published = await http.ask("POST", MESSAGES, token=token, json={"data": {"text": "hi"}})
    assert published.status_code == 201
    mine = await http.ask("GET", "/users/alice", token=token)
    assert await mine.get_json() == account
    answer = await post(http, "/auth/refresh", {"refresh_token": signed_in["refresh_token"]})
    renewed = await answer.get_json()
    assert renewed["refresh_token"] != signed_in["refresh_token"]
    assert answer.headers["Cache-Control"] == "no-store"
    answer = await post(http, "/auth/logout", {"refresh_token": renewed["refresh_token"]})
    assert answer.status_code == 200
    again = await post(http, "/auth/refresh", {"refresh_token": renewed["refresh_token"]})
    assert "sign in again" in (await problem(again, 401, "unauthorized"))["detail"]


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/users", {}, {"name": "is missing", "password": "is missing"}),
        ("/users", {"name": 1, "password": None}, {"name": "expected", "password": "expected"}),
        (
            "/users",
            {"name": "__", "password": "short"},
            {"name": "letters", "password": "8 to 256"},
        ),
        ("/users", ALICE | {"name": "x" * 300}, {"name": "length <= 256"}),
        ("/users", ALICE | {"password": "x" * 2_000}, {"password": "length <= 1024"}),
        ("/users", ALICE | {"invitation": "none"}, {"invitation": "never was"}),
        ("/users", ALICE | {"name": "root"}, {"name": "is taken"}),
        ("/auth/login", {"name": ["alice"]}, {"name": "expected", "password": "is missing"}),
        ("/auth/login", ALICE | {"cookie": "yes"}, {"cookie": "expected `bool`"}),
        ("/auth/refresh", {"refresh_token": 7}, {"refresh_token": "expected"}),
        ("/auth/logout", {"everywhere": 1}, {"everywhere": "expected `bool`"}),
    ],
)
async def test_every_wrong_field_is_told(
    http: Client, path: str, body: object, fields: Mapping[str, str]
) -> None:
    told = await problem(await post(http, path, body, **OWN), 422, "invalid")
    assert set(told["fields"]) == set(fields)
    for name, reason in fields.items():
        assert reason in told["fields"][name], told


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad_request"),
        (b"[]", 400, "bad_request"),
        (b'"alice"', 400, "bad_request"),
        (b'{"name": "\\ud800", "password": "x"}', 400, "bad_request"),
        (b"[" * 100_000, 413, "too_large"),
        (b"\xff", 400, "bad_request"),
    ],
)
async def test_what_is_no_object_is_refused(
    http: Client, body: bytes, status: int, code: str
) -> None:
    await problem(await http.ask("POST", "/auth/login", data=body), status, code)


@pytest.mark.parametrize("password", ["wrong horse", ""])
async def test_a_wrong_password_is_told_like_a_wrong_name(http: Client, password: str) -> None:
    await sign_up(http)
    told = [
        await problem(await post(http, "/auth/login", given), 401, "unauthorized")
        for given in (ALICE | {"password": password}, ALICE | {"name": "bob"})
    ]
    assert told[0]["detail"] == told[1]["detail"]


async def test_attempts_are_limited(flags: dict[str, Any]) -> None:
    async with client(**flags, accounts__attempts_per_name=2) as http:
        for _ in range(2):
            await problem(await post(http, "/auth/login", ALICE), 401, "unauthorized")
        answer = await post(http, "/auth/login", ALICE)
        told = await problem(answer, 429, "rate_limited")
        assert 0 < told["retry_in_ms"] <= 900_000
        assert 0 < int(answer.headers["Retry-After"]) <= 900


async def test_an_address_may_not_ask_without_end(flags: dict[str, Any]) -> None:
    async with client(clock=ManualClock(), **flags) as http:
        answers = [
            await post(http, "/auth/refresh", {}, **OWN) for _ in range(REQUESTS_AT_ONCE + 2)
        ]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [401] * REQUESTS_AT_ONCE + [429] * 2


# Cookies ----------------------------------------------------------------------------------------


async def test_a_page_keeps_its_refresh_token_in_a_cookie(http: Client) -> None:
    await sign_up(http)
    answer = await post(http, "/auth/login", ALICE | {"cookie": True}, **OWN)
    body = await answer.get_json()
    assert {"refresh_token", "refresh_expires_in"}.isdisjoint(body)
    cookie = cookie_of(answer)
    assert (cookie.key, cookie["path"], cookie["samesite"]) == ("chat_refresh", "/", "Lax")
    assert cookie["httponly"]
    assert not cookie["secure"]
    assert not cookie["domain"]
    assert cookie["max-age"] == "2592000"
    # The test client has the cookie now, as a browser would.
    answer = await post(http, "/auth/refresh", {}, **OWN)
    assert answer.status_code == 200
    assert cookie_of(answer).value != cookie.value
    answer = await post(http, "/auth/logout", {}, **OWN)
    assert cookie_of(answer)["max-age"] == "0"
    await problem(await post(http, "/auth/refresh", {}, **OWN), 401, "unauthorized")


async def test_by_https_the_cookie_is_secure(http: Client) -> None:
    await sign_up(http)
    secure = {"Origin": "https://localhost"}  # a proxy has ended TLS
    answer = await post(http, "/auth/login", ALICE | {"cookie": True}, **secure)
    cookie = cookie_of(answer)
    assert (cookie.key, cookie["path"], cookie["domain"]) == ("__Host-chat_refresh", "/", "")
    assert cookie["secure"]
    assert cookie["httponly"]
    sent = {"Cookie": f"__Host-chat_refresh={cookie.value}"}
    answer = await http.ask("POST", "/auth/refresh", headers={**secure, **sent})
    assert answer.status_code == 200
    assert cookie_of(answer)["secure"]


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "http://localhost:9"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost", "Host": "chat.example"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
    {},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_a_foreign_page_cannot_use_the_cookie(http: Client, headers: dict[str, str]) -> None:
    await sign_up(http)
    first = cookie_of(await post(http, "/auth/login", ALICE | {"cookie": True}, **OWN)).value
    for path, body in (
        ("/auth/refresh", {}),
        ("/auth/logout", {}),
        ("/auth/logout", {"everywhere": True}),
        ("/auth/login", ALICE | {"cookie": True}),
    ):
        answer = await http.ask("POST", path, json=body, headers=headers)
        status = 403 if "Host" not in headers else answer.status_code
        assert status == 403
        await problem(answer, 403, "forbidden")
        assert "Set-Cookie" not in answer.headers
    answer = await post(http, "/auth/refresh", {"refresh_token": first})
    assert answer.status_code == 200  # nothing has ended


async def test_a_foreign_page_cannot_try_passwords_for_its_visitors(
    flags: dict[str, Any],
) -> None:
    async with client(**flags, accounts__attempts_per_address=1) as http:
        for path in ("/auth/login", "/users"):
            for _ in range(3):
                answer = await post(http, path, ALICE, Origin="http://evil.example")
                await problem(answer, 403, "forbidden")
        await problem(await post(http, "/auth/login", ALICE), 401, "unauthorized")
        await problem(await post(http, "/auth/login", ALICE), 429, "rate_limited")


async def test_browsers_without_origin_tell_where_they_ask_from(http: Client) -> None:
    await sign_up(http)
    await log_in(http, cookie=True)
    answer = await post(http, "/auth/refresh", {}, Sec_Fetch_Site="same-origin")
    assert answer.status_code == 200


async def test_pages_of_other_origins_use_tokens_and_no_cookie(flags: dict[str, Any]) -> None:
    other = {"Origin": "https://app.example"}
    async with client(**flags, http__allowed_origins="https://app.example") as http:
        await sign_up(http)
        await log_in(http, cookie=True)  # the server's own page
        answer = await post(http, "/auth/login", ALICE, **other)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "Access-Control-Allow-Credentials" not in answer.headers
        token = (await answer.get_json())["refresh_token"]
        renewed = await post(http, "/auth/refresh", {"refresh_token": token}, **other)
        assert renewed.status_code == 200
        await problem(await post(http, "/auth/refresh", {}, **other), 403, "forbidden")
        await problem(
            await post(http, "/auth/login", ALICE | {"cookie": True}, **other), 403, "forbidden"
        )


async def test_a_token_in_the_body_needs_no_origin_and_sets_no_cookie(http: Client) -> None:
    await sign_up(http)
    token = (await log_in(http))["refresh_token"]
    answer = await post(http, "/auth/refresh", {"refresh_token": token})
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers


# Passwords, users, invitations ------------------------------------------------------------------


async def test_changes_a_password(http: Client) -> None:
    await sign_up(http)
    signed_in = await log_in(http)
    new = {"password": PASSWORD, "new_password": "another horse"}
    await problem(await post(http, "/auth/password", new), 401, "unauthorized")
    token = {"Authorization": f"Bearer {signed_in['access_token']}"}
    wrong = new | {"password": "wrong horse"}
    await problem(await post(http, "/auth/password", wrong, **token), 401, "unauthorized")
    told = await problem(
        await post(http, "/auth/password", new | {"new_password": "x"}, **token), 422, "invalid"
    )
    assert set(told["fields"]) == {"new_password"}
    answer = await post(http, "/auth/password", new, **token)
    body = await answer.get_json()
    assert answer.status_code == 200
    old = {"refresh_token": signed_in["refresh_token"]}
    await problem(await post(http, "/auth/refresh", old), 401, "unauthorized")
    renewed = await post(http, "/auth/refresh", {"refresh_token": body["refresh_token"]})
    assert renewed.status_code == 200
    await problem(await post(http, "/auth/login", ALICE), 401, "unauthorized")


async def test_only_those_who_may_see_users_and_invite(flags: dict[str, Any], http: Client) -> None:
    chat: ChatServer = http.app.extensions["chat_server"]
    assert chat.database is not None
    operator = Administration(chat.settings, chat.database, SystemClock())
    await operator.add("boss", PASSWORD, ["admin"])
    await sign_up(http)
    boss = (await log_in(http, "boss"))["access_token"]
    alice = (await log_in(http))["access_token"]
    for method, path in (("GET", "/users"), ("GET", "/users/boss"), ("POST", "/invitations")):
        await problem(await http.ask(method, path), 401, "unauthorized")
        await problem(await http.ask(method, path, token=alice), 403, "forbidden")
        await problem(await http.ask(method, path, token=mint("ghost")), 403, "forbidden")
    page = await http.ask("GET", "/users", token=boss, query_string={"limit": "1"})
    body = await page.get_json()
    assert ([user["id"] for user in body["users"]], body["more"]) == (["alice"], True)
    page = await http.ask("GET", "/users", token=boss, query_string={"after": "alice"})
    assert [user["id"] for user in (await page.get_json())["users"]] == ["boss"]
    for wrong in ({"limit": "0"}, {"limit": "x"}, {"limit": "1001"}):
        answer = await http.ask("GET", "/users", token=boss, query_string=wrong)
        await problem(answer, 400, "bad_request")
    await problem(await http.ask("GET", "/users/nobody", token=boss), 404, "not_found")
    answer = await http.ask("POST", "/invitations", token=boss, json={"roles": ["admin"]})
    assert answer.status_code == 201
    invitation = await answer.get_json()
    given = ALICE | {"name": "carol", "invitation": invitation["token"]}
    answer = await post(http, "/users", given)
    assert (await answer.get_json())["roles"] == ["admin"]


async def test_without_an_invitation_nobody_signs_up_unless_it_is_open(
    flags: dict[str, Any],
) -> None:
    async with client(**flags | {"accounts__sign_up": "invited"}) as http:
        await problem(await post(http, "/users", ALICE), 403, "forbidden")


# Where they are on ------------------------------------------------------------------------------


async def test_without_accounts_there_are_no_such_routes() -> None:
    async with client() as http:
        for path in ("/auth/login", "/auth/refresh", "/auth/logout", "/auth/password", "/users"):
            await problem(await post(http, path, {}, **OWN), 404, "not_found")
        page = await (await http.ask("GET", "/")).get_data(as_text=True)
        assert 'data-accounts=""' in page


async def test_the_description_of_the_api_has_them(http: Client) -> None:
    document = await (await http.ask("GET", "/openapi.json")).get_json()
    assert_complete(document)
    operations = {
        (path, method): operation
        for path, item in document["paths"].items()
        if path.startswith(("/auth", "/users", "/invitations"))
        for method, operation in item.items()
    }
    without_token = {where for where, each in operations.items() if each.get("security") == []}
    assert without_token == {
        ("/auth/login", "post"),
        ("/auth/refresh", "post"),
        ("/auth/logout", "post"),
        ("/users", "post"),
    }
    assert operations.keys() - without_token == {
        ("/auth/password", "post"),
        ("/users", "get"),
        ("/users/{id}", "get"),
        ("/users/{id}", "delete"),
        ("/users/{id}/export", "post"),
        ("/users/{id}/export", "get"),
        ("/users/{id}/export/messages", "get"),
        ("/invitations", "post"),
    }
    assert all("default" in each["responses"] for each in operations.values())
    assert "201" in operations["/users", "post"]["responses"]


@pytest.mark.parametrize("mode", ["closed", "invited", "open"])
async def test_the_page_knows_who_may_sign_up(flags: dict[str, Any], mode: str) -> None:
    async with client(**flags | {"accounts__sign_up": mode}) as http:
        page = await (await http.ask("GET", "/")).get_data(as_text=True)
        assert f'data-accounts="{mode}"' in page


async def test_auto_is_on_where_it_can_be_and_off_inside_an_application(
    flags: dict[str, Any],
) -> None:
    auto = flags | {"accounts__enabled": "auto"}
    async with client(**auto) as http:
        await sign_up(http)
    async with client(**auto | {"database__url": ""}) as http:
        await problem(await post(http, "/users", ALICE), 404, "not_found")
    assert ChatServer(make_settings(**auto)).accounts is None


# Sessions of an application ---------------------------------------------------------------------


@asynccontextmanager
async def embedded(settings: Settings, sessions: Mapping[str, Identity]) -> AsyncIterator[Client]:
    async def authenticate(request: Request) -> Identity | None:
        return sessions.get(request.cookies.get("session", ""))

    def build() -> Quart:
        app = Quart(__name__)
        ChatServer(settings, authenticate=authenticate).init_app(app)
        return app

    app = await asyncio.to_thread(build)  # which reads files
    async with app.test_app() as test_app:
        yield Client(app, test_app.test_client())


async def test_an_application_signs_its_users_in_itself() -> None:
    ada = Identity(user="7", name="Ada", info={"team": 1}, roles=("admin",))
    settings = make_settings(accounts__roles__admin__moderate="room:**")
    async with embedded(settings, {"s1": ada}) as http:
        await problem(await post(http, "/auth/refresh", {}, **OWN), 401, "unauthorized")
        session = {"Cookie": "session=s1"}
        await problem(await post(http, "/auth/refresh", {}, **session), 403, "forbidden")
        answer = await post(http, "/auth/refresh", {}, **OWN, **session)
        body = await answer.get_json()
        assert body["user"] == {
            "user": "7", "name": "Ada", "info": {"team": 1}, "roles": ["admin"]
        }  # fmt: skip
        chat: ChatServer = http.app.extensions["chat_server"]
        claims = await chat.verifier.verify(body["access_token"])
        assert claims.user == User(user="7", name="Ada", info={"team": 1})
        assert claims.topics.moderate == ("room:**",)
        assert (await post(http, "/auth/login", ALICE)).status_code == 404
        page = await (await http.ask("GET", "/")).get_data(as_text=True)
        assert 'data-accounts="session"' in page


async def test_an_identity_that_no_token_can_bear_is_a_fault_of_the_applications(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with embedded(make_settings(), {"s1": Identity(user="")}) as http:
        answer = await post(http, "/auth/refresh", {}, **OWN, Cookie="session=s1")
        await problem(answer, 500, "internal")
    assert "`sub` must be text of 1 to 255 characters" in caplog.text


async def test_signing_out_revokes_the_access_tokens(http: Client) -> None:
    await sign_up(http)
    first, other = await log_in(http), await log_in(http)

    async def publishes(signed_in: dict[str, Any]) -> int:
        token = signed_in["access_token"]
        return (await http.ask("POST", MESSAGES, token=token, json={"data": 1})).status_code

    assert await publishes(first) == await publishes(other) == 201
    ended = await post(http, "/auth/logout", {"refresh_token": first["refresh_token"]})
    assert ended.status_code == 200
    assert await publishes(first) == await publishes(other) == 401
    answer = await post(http, "/auth/refresh", {"refresh_token": other["refresh_token"]})
    assert await publishes(await answer.get_json()) == 201, "the other device goes on"


async def test_another_password_revokes_all_access_tokens_but_the_new_one(http: Client) -> None:
    await sign_up(http)
    old = await log_in(http)
    words = {"password": PASSWORD, "new_password": "another horse"}
    answer = await http.ask("POST", "/auth/password", token=old["access_token"], json=words)
    new = await answer.get_json()
    for token, status in ((old["access_token"], 401), (new["access_token"], 201)):
        asked = await http.ask("POST", MESSAGES, token=token, json={"data": 1})
        assert asked.status_code == status


async def test_a_sign_out_takes_nothing_back_that_an_operator_has_revoked(http: Client) -> None:
    await sign_up(http)
    signed_in = await log_in(http)
    until = int(http.node.clock.time() * 1_000) + 10_000_000
    http.node.denials.put("issued", "alice", Denial(until, 1, "op", "stolen"))
    await post(http, "/auth/logout", {"refresh_token": signed_in["refresh_token"]})
    found = http.node.denials.find("issued", "alice")
    assert found is not None
    assert (found.until >= until - 1, found.at > 1) == (True, True)
