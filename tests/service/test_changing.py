"""What a user may change, and how appends to one message are gathered."""

import asyncio
from asyncio import Future
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.changes import Append, Change, ChangeResult, Outcome, Piece, split_of
from chat_server.events import Kind, PublishResult, Retention
from chat_server.protocol import commands
from chat_server.protocol.errors import (
    BadRequest,
    ChatError,
    Forbidden,
    Gone,
    NotFound,
    TooLarge,
    Unavailable,
)
from chat_server.protocol.messages import AppendOk
from chat_server.service.actor import Actor, Application
from chat_server.service.appends import Appends
from chat_server.service.drafts import change_fields
from chat_server.service.service import Service
from chat_server.settings import Namespace, Settings

from ..realtime.world import claims
from ..rig.fakes import turns

ROOM = "room:a"
ANN, BOB = Actor(claims("ann", publish=("**",))), Actor(claims("bob", publish=("**",)))
MODERATOR = Actor(claims("max", moderate=("**",)))


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


async def say(service: Service, data: Any = "hi", actor: Actor = ANN, **more: Any) -> int:
    command = commands.Publish(topic=ROOM, data=raw(data), **more)
    seq: int = (await service.perform(actor, command)).seq
    return seq


async def shown(service: Service) -> list[dict[str, Any]]:
    page = await service.node.broker.history(ROOM, limit=99, folded=True)
    return [msgspec.json.decode(event.payload) for event in page.events]


def edit(seq: int, data: Any = "new", **more: Any) -> commands.Edit:
    return commands.Edit(topic=ROOM, seq=seq, data=raw(data), **more)


def append(seq: int, text: str = "x", **more: Any) -> commands.Append:
    return commands.Append(topic=ROOM, seq=seq, text=text, **more)


def react(seq: int, emoji: str = "👍", **more: Any) -> commands.React:
    return commands.React(topic=ROOM, seq=seq, emoji=emoji, **more)


def delete(seq: int, **more: Any) -> commands.Delete:
    return commands.Delete(topic=ROOM, seq=seq, **more)


# Who may ----------------------------------------------------------------------------------------


async def test_authors_and_moderators_may_and_others_may_not(service: Service) -> None:
    reader = Actor(claims("ann", subscribe=("**",), history=("**",)))
    for make in (edit, append, delete):
        seq = await say(service)
        with pytest.raises(Forbidden, match=f"seq: message {seq} is another user's"):
            await service.perform(BOB, make(seq))
        with pytest.raises(Forbidden, match="does not allow publish"):
            await service.perform(reader, make(seq))
        ok = await service.perform(ANN, make(seq))
        assert (ok.topic, ok.target, ok.seq, ok.duplicate) == (ROOM, seq, seq + 1, False)
        seq = await say(service)
        for actor in (MODERATOR, Application()):
            seq = await say(service)
            assert (await service.perform(actor, make(seq))).target == seq


async def test_everybody_who_may_publish_reacts(service: Service) -> None:
    seq = await say(service)
    for actor in (ANN, BOB):
        await service.perform(actor, react(seq))
    with pytest.raises(Forbidden, match="does not allow publish"):
        await service.perform(MODERATOR, react(seq))
    with pytest.raises(BadRequest, match="emoji: only a user can react"):
        await service.perform(Application(), react(seq))
    assert (await shown(service))[0]["reactions"] == {"👍": {"count": 2, "users": ["ann", "bob"]}}


async def test_keys_are_of_a_user_a_command_and_a_message(service: Service) -> None:
    one, other = await say(service, key="k"), await say(service)
    made: list[commands.ChangeCommand] = [
        edit(one, key="k"),
        append(one, key="k"),
        react(one, key="k"),
        edit(other, key="k"),
    ]
    places = [(await service.perform(ANN, command)).seq for command in made]
    assert places == [3, 4, 5, 6]
    again = [await service.perform(ANN, command) for command in made]
    assert [ok.seq for ok in again] == places
    assert all(ok.duplicate for ok in again)
    assert not (await service.perform(MODERATOR, edit(one, key="k"))).duplicate


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [edit, append, delete, react])
async def test_errors_name_the_message(service: Service, make: Any) -> None:
    seq = await say(service)
    with pytest.raises(NotFound, match="seq: there is no message 7 in the topic's history"):
        await service.perform(ANN, make(7))
    await service.perform(ANN, delete(seq))
    with pytest.raises(Gone, match=f"seq: message {seq} is deleted or finished") as caught:
        await service.perform(ANN, make(seq))
    assert caught.value.topic == ROOM


@pytest.mark.parametrize(
    "emoji",
    [
        "👍👍",
        "ab",
        " ",
        "\t",
        "\x07",
        "\u200b",
        "\u202e",
        "\u200d",
        "\u3164",
        "e" + "\u0301" * 5,
        "a\n",
        "\ud7ff\u0300x",
        "\ue000",
    ],
)
async def test_a_reaction_is_one_visible_character(service: Service, emoji: str) -> None:
    seq = await say(service)
    with pytest.raises(BadRequest, match="emoji: must be one visible character"):
        await service.perform(ANN, react(seq, emoji))


@pytest.mark.parametrize("emoji", ["👍", "👍🏽", "❤️", "👩‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🇪🇺", "1️⃣", "+", "é", "✓"])
async def test_emoji_of_many_parts_are_one(service: Service, emoji: str) -> None:
    seq = await say(service)
    await service.perform(ANN, react(seq, emoji))
    assert list((await shown(service))[0]["reactions"]) == [emoji]


async def test_a_message_stays_within_its_size(service: Service) -> None:
    seq = await say(service, "")
    with pytest.raises(TooLarge, match="data: may have 1000 bytes"):
        await service.perform(ANN, edit(seq, "x" * 1_000))
    await service.perform(ANN, append(seq, "x" * 990))
    with pytest.raises(TooLarge, match=f"text: message {seq} would become too large"):
        await service.perform(ANN, append(seq, "x" * 9))


async def test_what_has_no_text_does_not_grow(service: Service) -> None:
    seq = await say(service, {"image": "a.png"})
    with pytest.raises(BadRequest, match=f"seq: message {seq} has no text to append to"):
        await service.perform(ANN, append(seq))
    with pytest.raises(BadRequest, match="text: must not be empty unless `state` ends"):
        await service.perform(ANN, append(seq, ""))


async def test_an_append_ends_a_message_without_text(service: Service) -> None:
    seq = await say(service, "done", state="streaming")
    ok = await service.perform(ANN, append(seq, "", state="cancelled"))
    assert ok.length == 4
    assert (await shown(service))[0]["state"] == "cancelled"


@pytest.mark.parametrize("data", [{"image": "a.png"}, 7, None])
async def test_what_has_no_text_can_be_ended(service: Service, data: Any) -> None:
    seq = await say(service, data, state="streaming")
    ok = await service.perform(ANN, append(seq, "", state="complete"))
    assert (ok.seq, ok.length) == (seq + 1, 0)
    (message,) = await shown(service)
    assert (message["data"], message["state"]) == (data, "complete")
    with pytest.raises(Gone):
        await service.perform(ANN, append(seq, "x"))


async def test_what_comes_together_to_what_has_no_text_is_refused_or_ends_it(
    service: Service,
) -> None:
    seq = await say(service, 7, state="streaming")
    changes = [append(seq, "a"), append(seq, "b"), append(seq, "", state="complete")]
    answers = await asyncio.gather(
        *[service.perform(ANN, change) for change in changes], return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [BadRequest, BadRequest, AppendOk]
    assert (await shown(service))[0]["state"] == "complete"


async def test_a_repetition_is_known_beside_what_comes_too_late(service: Service) -> None:
    seq = await say(service, "", state="streaming")
    first = await service.perform(ANN, append(seq, "a", key="k"))
    await service.perform(ANN, append(seq, "", state="complete"))
    changes = [append(seq, "b"), append(seq, "a", key="k"), append(seq, "c")]
    late, again, later = await asyncio.gather(
        *[service.perform(ANN, change) for change in changes], return_exceptions=True
    )
    assert [type(late), type(later)] == [Gone, Gone]
    assert isinstance(again, AppendOk)
    assert (again.seq, again.duplicate) == (first.seq, True)


# Gathering --------------------------------------------------------------------------------------


class SlowLog:
    """A log that answers changes when a test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[Change, Future[ChangeResult]]] = []

    def change(self, change: Change) -> "Future[ChangeResult]":
        future: Future[ChangeResult] = asyncio.get_running_loop().create_future()
        self.asked.append((change, future))
        return future

    def texts(self) -> list[list[str]]:
        return [
            [piece.text.decode() for piece in change.pieces]
            for change, _ in self.asked
            if isinstance(change, Append)
        ]

    async def answer(self, outcome: Outcome = Outcome.STORED) -> None:
        change, future = self.asked[-1]
        count = len(change.pieces) if isinstance(change, Append) else 1
        count = count if outcome is Outcome.STORED else 0
        place = PublishResult(len(self.asked), "e", 0)
        future.set_result(ChangeResult(outcome, (place,) * count))
        await turns()


def draft(
    text: str,
    *,
    state: str = "streaming",
    sender: bytes = b'{"user":"ann"}',
    key: str | None = None,
    epoch: str | None = None,
) -> Append:
    return Append(
        **change_fields(Kind.APPENDED, ROOM, sender, 1),
        author=sender[:-1],
        epoch=epoch,
        retention=Retention(9, 9.0),
        pieces=(Piece(text.encode(), len(text), key),),
        state=state,
        max_bytes=100,
    )


def deletion() -> Change:
    return Change(
        **change_fields(Kind.DELETED, ROOM, b'{"user":"max"}', 1),
        author=None,
        retention=Retention(9, 9.0),
    )


def gathering(window: int = 0, **broker: int) -> tuple[SlowLog, Appends]:
    log = SlowLog()
    made = Settings(namespaces={"room": Namespace(append_window_ms=window)})
    if broker:
        made = msgspec.structs.replace(made, broker=msgspec.structs.replace(made.broker, **broker))
    return log, Appends(log, made)  # type: ignore[arg-type]


async def test_what_comes_while_one_is_under_way_leaves_with_the_next() -> None:
    log, appends = gathering()
    futures = [appends.append(draft(text)) for text in "abc"]
    assert log.texts() == [["a"]]
    await log.answer()
    assert log.texts() == [["a"], ["b", "c"]]
    futures.append(appends.append(draft("d")))
    await log.answer()
    await log.answer()
    assert [future.result().places[0].seq for future in futures] == [1, 2, 2, 3]
    assert appends._count == 0
    assert not appends._lines


async def test_other_senders_and_what_ends_the_text_are_events_of_their_own() -> None:
    log, appends = gathering()
    for each in (
        draft("a"),
        draft("b"),
        draft("c", sender=b'{"user":"max"}'),
        draft("d", state="complete"),
        draft("e"),
    ):
        appends.append(each)
    for _ in range(4):
        await log.answer()
    assert log.texts() == [["a"], ["b"], ["c"], ["d"], ["e"]]
    await log.answer()


async def test_nothing_is_stored_behind_a_hole() -> None:
    log, appends = gathering()
    futures = [appends.append(draft(text)) for text in "abc"]
    log.asked[0][1].set_exception(Unavailable("away"))
    await turns()
    for future in futures:
        with pytest.raises(Unavailable, match="away"):
            future.result()
    assert len(log.asked) == 1
    appends.append(draft("d"))
    assert log.texts() == [["a"], ["d"]]
    await log.answer()


async def test_one_of_several_may_fit() -> None:
    log, appends = gathering()
    futures = [appends.append(draft(text)) for text in "abc"]
    await log.answer()
    await log.answer(Outcome.TOO_LARGE)
    assert log.texts() == [["a"], ["b", "c"], ["b"]]
    await log.answer()
    await log.answer(Outcome.TOO_LARGE)
    outcomes = [future.result().outcome for future in futures]
    assert outcomes == [Outcome.STORED, Outcome.STORED, Outcome.TOO_LARGE]


@pytest.mark.parametrize("outcome", [Outcome.GONE, Outcome.NOT_FOUND])
async def test_what_is_refused_together_is_asked_one_by_one(outcome: Outcome) -> None:
    log, appends = gathering()
    texts = [("a", "streaming"), ("b", "streaming"), ("", "complete")]
    futures = [appends.append(draft(text, state=state)) for text, state in texts]
    await log.answer()
    for each in (outcome, outcome, Outcome.STORED):
        await log.answer(each)
    assert log.texts() == [["a"], ["b", ""], ["b"], [""]]
    outcomes = [future.result().outcome for future in futures]
    assert outcomes == [Outcome.STORED, outcome, Outcome.STORED]
    assert not appends._lines


async def test_those_asked_one_by_one_do_not_wait_for_more() -> None:
    log, appends = gathering(window=1_000)
    futures = [appends.append(draft(text)) for text in "ab"]
    futures.append(appends.append(draft("c", state="complete")))
    await log.answer(Outcome.TOO_LARGE)
    for _ in futures:
        await log.answer(Outcome.TOO_LARGE)
    assert log.texts() == [["a", "b", "c"], ["a"], ["b"], ["c"]]
    assert {future.result().outcome for future in futures} == {Outcome.TOO_LARGE}


async def test_a_namespace_may_gather_longer() -> None:
    log, appends = gathering(window=1_000)
    futures = [appends.append(draft(text)) for text in "ab"]
    await turns()
    assert log.texts() == []
    futures.append(appends.append(draft("c", state="complete")))
    assert log.texts() == [["a", "b", "c"]]
    await log.answer()
    assert {future.result().places[0].seq for future in futures} == {1}


async def test_a_key_twice_is_stored_once() -> None:
    log, appends = gathering()
    for key in ("k1", "k2", "k2", "k3"):
        appends.append(draft(key, key=key))
    await log.answer()
    assert log.texts() == [["k1"], ["k2"]], "the store can tell a repetition of what it has"
    await log.answer()
    assert log.texts() == [["k1"], ["k2"], ["k2", "k3"]]
    await log.answer()


async def test_other_changes_do_not_wait_for_the_window() -> None:
    log, appends = gathering(window=1_000)
    appends.append(draft("a"))
    deleted = appends.change(deletion())
    appends.append(draft("b"))
    assert log.texts() == [["a"]]
    await log.answer()
    assert [change.kind for change, _ in log.asked] == [Kind.APPENDED, Kind.DELETED]
    await log.answer()
    assert deleted.result().outcome is Outcome.STORED
    appends.stop()


async def test_other_changes_do_not_wait_for_the_end_of_a_text() -> None:
    log, appends = gathering()
    appends.append(draft("a"))
    appends.append(draft("b"))
    deleted = appends.change(deletion())
    for _ in range(3):
        appends.append(draft("more"))
        await log.answer()
    assert deleted.done()
    appends.stop()


async def test_so_many_may_wait() -> None:
    log, appends = gathering(max_pending=3)
    futures = [appends.append(draft(text)) for text in "abcd"]
    with pytest.raises(Unavailable, match="too many changes are waiting"):
        await futures[3]
    await log.answer()
    await log.answer()
    assert all(future.result().outcome is Outcome.STORED for future in futures[:3])


async def test_a_stop_fails_what_waits() -> None:
    log, appends = gathering(window=1_000)
    future = appends.append(draft("a"))
    appends.stop()
    with pytest.raises(Unavailable, match="the server stops"):
        future.result()
    assert log.texts() == []


async def test_a_stop_fails_other_changes_that_wait() -> None:
    log, appends = gathering()
    appends.append(draft("a"))
    deleted = appends.change(deletion())
    appends.stop()
    with pytest.raises(Unavailable, match="the server stops"):
        deleted.result()
    await log.answer()
    assert len(log.asked) == 1
    assert not appends._lines


async def test_a_message_is_changed_in_the_order_of_the_calls() -> None:
    log, appends = gathering()
    appends.append(draft("a"))
    appends.append(draft("b"))
    appends.change(deletion())
    appends.append(draft("c"))
    for _ in range(4):
        await log.answer()
    kinds = [change.kind for change, _ in log.asked]
    assert kinds == [Kind.APPENDED, Kind.APPENDED, Kind.DELETED, Kind.APPENDED]


@given(
    st.text(max_size=20)
    | st.dictionaries(st.text(max_size=4) | st.just("text"), st.text(max_size=5) | st.integers())
)
def test_a_split_text_is_put_together_again(value: Any) -> None:
    data = msgspec.json.encode(value)
    split = split_of(data, 3)
    text = value if isinstance(value, str) else value.get("text")
    if not isinstance(text, str):
        assert split is None
        return
    assert split is not None
    assert split.length == len(text)
    longer = msgspec.json.decode(split.front + b"more" + split.back)
    assert longer == (text + "more" if isinstance(value, str) else {**value, "text": text + "more"})


def test_every_outcome_is_an_error_of_its_own() -> None:
    from chat_server.service.changing import _REFUSALS

    assert set(_REFUSALS) == set(Outcome) - {Outcome.STORED, Outcome.RATE_LIMITED}
    assert all(issubclass(error, ChatError) for error, _ in _REFUSALS.values())
