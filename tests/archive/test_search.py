"""Search: by words, safely, and only what the token allows; alike in both databases."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from msgspec.structs import replace
from quart.typing import TestClientProtocol as Http
from sqlalchemy import Select, select
from sqlalchemy import text as sql
from sqlalchemy.dialects import postgresql

from chat_server import create_app, errors
from chat_server.archive import search
from chat_server.archive.search import ArchiveSearch, snippet, words_of
from chat_server.archive.tables import MESSAGES
from chat_server.database.database import Database
from chat_server.extension import ChatServer
from chat_server.hooks import Subscription
from chat_server.realtime.searching import Hit
from chat_server.settings import DatabaseSettings, Namespace, load_settings

from ..broker.test_changes import ANN, BOB, delete, edit, say
from ..rig.server import mint
from .helpers import ALL, archive, started


async def find(database: Database, question: str, **more: Any) -> list[Hit]:
    words = words_of(question)
    return await ArchiveSearch(database).find(words, **{"limit": 100, **more})


async def seqs(database: Database, question: str, **more: Any) -> list[int]:
    hits = await find(database, question, **more)
    return [json.loads(hit.payload)["seq"] for hit in hits]


async def test_a_long_word_is_found(database: Database) -> None:
    broker = await started()
    await say(broker, f"sha512: {'0123456789abcdef' * 8}", retention=ALL)
    await archive(database, broker)
    for end in (128, 100, 65, 64):
        assert await seqs(database, ("0123456789abcdef" * 8)[:end]) == [1]


async def test_words_are_found_where_they_are(database: Database) -> None:
    broker = await started()
    for data in (
        "See you at Lunch",
        {"text": "lunch is late", "n": 1},
        {"title": "lunch without a text"},
        ["lunch"],
        "Café au lait, Straße",
        "launching",
        "quotes \" and ' and \\ and % and _ and NEAR( and lunch*",
    ):
        await say(broker, data, retention=ALL)
    await archive(database, broker)
    assert await seqs(database, "lunch") == [7, 2, 1]
    assert await seqs(database, "LUNCH late") == [2]
    assert await seqs(database, "lun") == [7, 2, 1]
    assert await seqs(database, "lun late") == [], "only the last word may be a beginning"
    assert await seqs(database, "near lunch") == [7]
    assert await seqs(database, "lunch OR late") == []
    assert await seqs(database, 'lunch" OR "late') == []
    assert await seqs(database, "straße") == [5]
    assert await seqs(database, "nothing") == []


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("see example.org today", "example.org"),
        ("see example.org today", "org today"),
        ("we met on 2026-11-29", "2026-11"),
        ("pi is 3.14 or so", "3.14"),
        ("mail to ann@example.org", "ann@example"),
        ("https://a.example/path/x.html", "path"),
        ("<secret> it's 100%", "secret it s 100"),
        ("-5 and a_b \\c", "5 and a b c"),
    ],
)
async def test_signs_are_between_words(database: Database, text: str, question: str) -> None:
    broker = await started()
    await say(broker, text, retention=ALL)
    await archive(database, broker)
    assert await seqs(database, question) == [1]


async def test_postgresql_searches_by_its_index(database: Database) -> None:
    if database.dialect != "postgresql":
        return
    query = ArchiveSearch(database)._matching(["word"], None)
    statement = select(MESSAGES.c.id).where(query)
    async with database.session() as session:
        await session.execute(sql("SET LOCAL enable_seqscan = off"))
        plan = await session.scalars(sql(f"EXPLAIN {_literal(statement)}"))
        assert "ix_chat_archive_messages_search" in "\n".join(plan)


def _literal(statement: Select[Any]) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})).replace(
        ":", "\\:"
    )


async def test_changes_are_followed(database: Database) -> None:
    broker = await started()
    for text in ("apple", "banana", "cherry"):
        await say(broker, text, retention=ALL)
    await archive(database, broker)
    await broker.change(edit(1, "date"))
    await broker.change(delete(2))
    await archive(database, broker)
    found = {word: await seqs(database, word) for word in ("apple", "banana", "cherry", "date")}
    assert found == {"apple": [], "banana": [], "cherry": [3], "date": [1]}


async def test_topic_user_and_page_narrow_it(database: Database) -> None:
    broker = await started()
    for topic in ("room:a", "room:b"):
        for number in range(6):
            sender = BOB if number % 2 else ANN
            await say(broker, f"word {number}", topic=topic, sender=sender, retention=ALL)
        await archive(database, broker, topic)
    assert await seqs(database, "word", topic="room:a") == [6, 5, 4, 3, 2, 1]
    assert await seqs(database, "word", topic="room:b", user="bob") == [6, 4, 2]
    assert await seqs(database, "word", topic="room:none") == []
    pages: list[int] = []
    before = None
    while page := await find(database, "word", limit=5, before=before):
        pages += [hit.id for hit in page]
        before = pages[-1]
    assert pages == sorted(pages, reverse=True)
    assert len(set(pages)) == len(pages) == 12


@pytest.mark.parametrize("question", ['"*(', "' OR 1=1 --", "a" * 10_240, "\0", "😀", "🙂 *", ":*"])
async def test_no_question_breaks_the_index(database: Database, question: str) -> None:
    broker = await started()
    await say(broker, "a 1 or hello", retention=ALL)
    await archive(database, broker)
    words = words_of(question)
    if words:
        assert isinstance(await ArchiveSearch(database).find(words, limit=10), list)


def test_a_snippet_is_pieces_and_nothing_is_a_mark() -> None:
    assert snippet("See you at Lunch, <b>lunch</b>!", ["lunch"]) == [
        "See you at ",
        "Lunch",
        ", <b>",
        "lunch",
        "</b>!",
    ]
    assert snippet("café CAFÉ cafeteria", ["cafe"]) == [
        "",
        "café",
        " ",
        "CAFÉ",
        " ",
        "cafeteria",
        "",
    ]
    assert snippet("nothing", ["else"]) == ["nothing"]
    long = "x " * 500 + "word" + " y" * 500
    pieces = snippet(long, ["word"])
    assert pieces[1] == "word"
    assert pieces[0].startswith("…")
    assert pieces[2].endswith("…")
    assert len("".join(pieces)) < 300


@pytest.fixture
async def http(database_settings: DatabaseSettings) -> AsyncIterator[Http]:
    """A server with an archive, as an application with a client of its own."""
    settings = load_settings(environ={"CHAT_ENVIRONMENT": "testing"})
    settings = replace(
        settings, database=database_settings, namespaces={"default": Namespace(archive=True)}
    )
    async with create_app(settings).test_app() as app:
        yield app.test_client()


async def ask(http: Http, token: str, **query: Any) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    response = await http.get("/api/search", query_string=query, headers=headers)
    return response.status_code, await response.get_json()


async def publish(http: Http, topic: str, text: str) -> None:
    headers = {"Authorization": f"Bearer {mint('ada', publish=['**'], history=['**'])}"}
    path = f"/api/topics/{topic}/messages"
    response = await http.post(path, json={"data": {"text": text}}, headers=headers)
    assert response.status_code == 201


async def test_hooks_are_asked_about_each_topic_once(http: Http) -> None:
    asked: list[tuple[str, str]] = []
    closed: set[str] = set()

    chat: ChatServer = http.app.extensions["chat_server"]

    @chat.on_subscribe
    def not_b(subscription: Subscription) -> None:
        asked.append((subscription.topic, subscription.kind))
        if subscription.topic in closed:
            raise errors.Forbidden("not for you")

    for topic in ("room:a", "room:b", "room:a", "room:b"):
        await publish(http, topic, "needle")
    token = mint("root", history=["**"])
    async with asyncio.timeout(90):
        while len((await ask(http, token, q="needle"))[1]["hits"]) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    closed.add("room:b")
    asked.clear()
    status, found = await ask(http, token, q="needle")
    assert (status, [hit["message"]["topic"] for hit in found["hits"]]) == (200, ["room:a"] * 2)
    assert sorted(asked) == [("room:a", "search"), ("room:b", "search")]
    status, problem = await ask(http, token, q="needle", topic="room:b")
    assert (status, problem["detail"]) == (403, "not for you")


async def test_also_a_search_that_finds_nothing_to_read_costs(
    database_settings: DatabaseSettings,
) -> None:
    settings = load_settings(
        environ={"CHAT_ENVIRONMENT": "testing"},
        flags={"limits.read_burst_bytes": 10_000, "limits.read_bytes_per_second": 1.0},
    )
    settings = replace(
        settings, database=database_settings, namespaces={"default": Namespace(archive=True)}
    )
    async with create_app(settings).test_app() as app:
        token = mint("bob", history=[])
        answers = [await ask(app.test_client(), token, q="needle") for _ in range(4)]
    assert [status for status, _ in answers] == [200, 200, 200, 429]


async def test_only_what_the_token_lets_read_is_found(http: Http) -> None:
    for topic in ("room:a", "room:b", "secret:c"):
        for number in range(3):
            await publish(http, topic, f"needle {number}")
    everything = mint("root", history=["**"])
    async with asyncio.timeout(90):
        while len((await ask(http, everything, q="needle"))[1]["hits"]) < 9:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    status, found = await ask(http, mint("bob", history=["room:a"]), q="needle")
    assert status == 200
    assert [hit["message"]["topic"] for hit in found["hits"]] == ["room:a"] * 3
    assert found["before"] is None
    assert found["hits"][0]["message"]["data"] == {"text": "needle 2"}
    assert found["hits"][0]["snippet"] == ["", "needle", " 2"]
    status, problem = await ask(http, mint("bob", history=["room:a"]), q="x", topic="secret:c")
    assert (status, problem["code"]) == (403, "forbidden")
    status, found = await ask(http, mint("bob", history=[]), q="needle")
    assert (status, found["hits"]) == (200, [])
    first, rest = [], []
    status, page = await ask(http, everything, q="needle", limit=5)
    first = [hit["id"] for hit in page["hits"]]
    status, page = await ask(http, everything, q="needle", limit=5, before=page["before"])
    rest = [hit["id"] for hit in page["hits"]]
    assert len({*first, *rest}) == 9


async def test_nothing_is_made_of_the_texts_of_others(
    http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = mint("root", history=["**"])
    for topic in ("room:a", "room:b"):
        await publish(http, topic, "needle")
    async with asyncio.timeout(90):
        while len((await ask(http, everything, q="needle"))[1]["hits"]) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    texts: list[str] = []

    def watched(text: str, words: Sequence[str]) -> list[str]:
        texts.append(text)
        return snippet(text, words)

    monkeypatch.setattr(search, "snippet", watched)
    for history, limit, made in (([], 5, 0), (["room:a"], 5, 1), (["**"], 1, 1)):
        texts.clear()
        await ask(http, mint("bob", history=history), q="needle", limit=limit)
        assert len(texts) == made


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({}, "q"),
        ({"q": ""}, "q"),
        ({"q": '"*('}, "q: must have a word"),
        ({"q": "a" * 10_240}, "q"),
        ({"q": "a", "limit": 1_000}, "limit"),
        ({"q": "a", "before": "x"}, "before"),
        ({"q": "a", "before": 2**63}, "before"),
        ({"q": "a", "topic": "no such {topic}"}, "topic"),
    ],
)
async def test_a_bad_question_is_refused_in_one_sentence(
    http: Http, query: dict[str, Any], detail: str
) -> None:
    status, problem = await ask(http, mint("bob"), **query)
    assert (status, problem["code"]) == (400, "bad_request")
    assert detail in problem["detail"]


async def test_a_server_without_an_archive_says_so() -> None:
    settings = load_settings(environ={"CHAT_ENVIRONMENT": "testing"})
    async with create_app(settings).test_app() as app:
        status, problem = await ask(app.test_client(), mint("bob"), q="word")
    assert (status, problem["detail"]) == (400, "this server keeps no archive")
