"""Messages with their changes folded in are what history says they are."""

import json
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from chat_server import changes
from chat_server.broker.topic_log import TopicLog
from chat_server.changes import MAX_REACTING, Outcome, Piece, split_of
from chat_server.client import (
    Appended,
    Deleted,
    Edited,
    Gap,
    Message,
    Messages,
    Reaction,
    Reactions,
    User,
)
from chat_server.client.folding import _Named
from chat_server.events import Event, Kind, Retention
from chat_server.realtime.merging import merge_appends
from chat_server.service.drafts import change_fields, message_draft

TOPIC = "room:a"
ANN = User(user="ann")
ALL = Retention(size=1_000, seconds=60.0)
USERS = [f"user{number}" for number in range(14)]

decode = msgspec.json.Decoder(Message | Edited | Appended | Deleted | Reaction).decode


class Log:
    """A topic's log, as the memory broker has it."""

    def __init__(self) -> None:
        self._log = TopicLog("e1")

    @property
    def seq(self) -> int:
        return self._log.seq

    def publish(self, data: object, state: str | None = None) -> None:
        """Store a message."""
        encoded = json.dumps(data).encode()
        draft = message_draft(TOPIC, b'{"user":"ann"}', encoded, ALL, None, state=state)
        self._log.publish(draft, self.seq + 1_000)

    def edit(self, target: int, data: object) -> None:
        """Put other data into a message."""
        encoded = json.dumps(data).encode()
        fields = self._fields(Kind.EDITED, target, b',"data":', encoded)
        self._change(changes.Edit(**fields, data=encoded))

    def append(self, target: int, text: str, state: str) -> None:
        """Add to a message."""
        fields = self._fields(Kind.APPENDED, target)
        piece = Piece(json.dumps(text)[1:-1].encode(), len(text))
        self._change(changes.Append(**fields, pieces=(piece,), state=state, max_bytes=65_536))

    def delete(self, target: int) -> None:
        """Take a message's data away."""
        self._change(changes.Change(**self._fields(Kind.DELETED, target)))

    def react(self, target: int, emoji: str, user: str, *, remove: bool) -> None:
        """Add a reaction or take it back."""
        rest = f',"emoji":{json.dumps(emoji)},"remove":{json.dumps(remove)}'.encode()
        sender = json.dumps({"user": user}).encode()
        fields = self._fields(Kind.REACTION, target, rest, sender=sender)
        by = json.dumps(user).encode()
        self._change(changes.Reaction(**fields, user=by, emoji=emoji, remove=remove))

    def history(self) -> list[Message]:
        """Return all messages as they now are."""
        return [decode(event.payload) for event in self._read(0, folded=True)]

    def events(self, after: int, *, merged: bool) -> list[Any]:
        """Return the events behind a seq, neighbouring appends as one if asked for."""
        events = self._read(after, folded=False)
        if merged:
            events = list(merge_appends(events))
        return [decode(event.payload) for event in events]

    def _read(self, after: int, *, folded: bool) -> list[Event]:
        page = self._log.read(
            TOPIC,
            after=after,
            before=None,
            limit=1_000,
            newest=False,
            max_bytes=2**20,
            folded=folded,
        )
        return page.events

    def _fields(
        self,
        kind: Kind,
        target: int,
        rest: bytes = b"",
        content: bytes = b"",
        sender: bytes = b'{"user":"ann"}',
    ) -> dict[str, Any]:
        fields = change_fields(kind, TOPIC, sender, target, rest, content)
        return {**fields, "retention": ALL, "key": None, "author": None}

    def _change(self, change: Any) -> None:
        result, _ = self._log.change(change, self.seq + 1_000)
        if result.outcome is Outcome.SPLIT:
            split = split_of(result.data, result.version)
            if split is not None:
                self._log.change(replace(change, split=split), self.seq + 1_000)


TEXTS = st.text(st.sampled_from('aä👋"\\\n'), max_size=4)
DATA = st.one_of(TEXTS, st.builds(lambda text: {"n": 1, "text": text}, TEXTS), st.none())
TARGETS = st.integers(1, 12)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), DATA, st.sampled_from([None, "streaming"])),
        st.tuples(st.just("edit"), TARGETS, DATA),
        st.tuples(
            st.just("append"),
            TARGETS,
            TEXTS.filter(bool),
            st.sampled_from(["streaming", "streaming", "streaming", "complete", "cancelled"]),
        ),
        st.tuples(st.just("delete"), TARGETS),
        st.tuples(
            st.just("react"),
            TARGETS,
            st.sampled_from("👍♥"),
            st.sampled_from(USERS),
            st.sampled_from([False, False, True]),
        ),
    ),
    max_size=40,
)


def carry_out(log: Log, operations: Sequence[Any]) -> None:
    for name, *arguments in operations:
        if name == "react":
            *arguments, remove = arguments
            log.react(*arguments, remove=remove)
        else:
            getattr(log, name)(*arguments)


def assert_same(
    folded: list[Message], fresh: list[Message], old: list[Message], events: list[Any]
) -> None:
    """Compare all, but for users whom nothing that came has named.

    Args:
        folded: what was made of the rest.
        fresh: what history says in the end.
        old: what history said earlier.
        events: what came besides.
    """
    assert [replace(m, reactions={}) for m in folded] == [replace(m, reactions={}) for m in fresh]
    loaded = {message.seq: message for message in old}
    for ours, theirs in zip(folded, fresh, strict=True):
        assert list(ours.reactions) == list(theirs.reactions)
        for emoji, reactions in ours.reactions.items():
            other = theirs.reactions[emoji]
            named = named_by(loaded.get(ours.seq), emoji, ours.seq, events)
            known = list(takewhile(named.__contains__, other.users))
            assert reactions.count == other.count
            assert reactions.users == other.users[: len(reactions.users)]
            assert len(reactions.users) >= len(known)


def named_by(old: Message | None, emoji: str, seq: int, events: list[Any]) -> set[str]:
    """Return the users whom history named with an emoji, and those who reacted with it since."""
    since = 0 if old is None else old.version or old.seq
    named = old.reactions[emoji].users if old is not None and emoji in old.reactions else []
    return {*named} | {
        event.sender.user
        for event in events
        if isinstance(event, Reaction)
        and event.sender is not None
        and (event.target, event.emoji, event.remove) == (seq, emoji, False)
        and event.seq > since
    }


@settings(max_examples=300, deadline=None)
@given(
    before=OPERATIONS,
    meanwhile=OPERATIONS,
    after=OPERATIONS,
    merged=st.booleans(),
    overlap=st.integers(0, 60),
)
def test_an_old_state_and_the_events_since_are_the_fresh_state(
    before: list[Any], meanwhile: list[Any], after: list[Any], *, merged: bool, overlap: int
) -> None:
    """The events begin anywhere in front of the state, and some come before history is there."""
    log = Log()
    log.publish("first")
    log.publish({"text": ""}, "streaming")
    carry_out(log, before)
    begins = max(0, log.seq - overlap)
    carry_out(log, meanwhile)
    old = log.history()
    early = log.seq
    carry_out(log, after)
    messages = Messages(1_000)
    events = log.events(begins, merged=merged)
    for event in events:
        if event.seq <= early:
            messages.apply(event)
    messages.add(old)
    for event in events:
        if event.seq > early:
            messages.apply(event)
    assert_same(list(messages), log.history(), old, events)


@settings(max_examples=100, deadline=None)
@given(before=OPERATIONS, after=OPERATIONS, merged=st.booleans())
def test_history_that_comes_behind_later_events_is_brought_up_to_date(
    before: list[Any], after: list[Any], *, merged: bool
) -> None:
    log = Log()
    log.publish("first")
    carry_out(log, before)
    position, old = log.seq, log.history()
    carry_out(log, after)
    messages = Messages(1_000)
    events = log.events(position, merged=merged)
    for event in events:
        messages.apply(event)
    messages.add(old)
    assert_same(list(messages), log.history(), old, events)


CROWD = st.lists(
    st.tuples(
        st.just("react"),
        st.just(1),
        st.just("👍"),
        st.sampled_from(USERS),
        st.sampled_from([False, False, True]),
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(before=CROWD, after=CROWD)
def test_who_reacted_is_known_as_far_as_it_was_told(before: list[Any], after: list[Any]) -> None:
    """Whoever saw all events names whom history names; whoever came later, whom it can know."""
    log = Log()
    log.publish("first")
    carry_out(log, before)
    old = log.history()
    seen, late = Messages(10), Messages(10)
    late.add(old)
    carry_out(log, after)
    events = log.events(0, merged=False)
    for event in events:
        seen.apply(event)
        late.apply(event)
    assert list(seen) == log.history()
    assert_same(list(late), log.history(), old, events)
    if all(reactions.count <= 10 for reactions in old[0].reactions.values()):
        assert list(late) == log.history()


def test_an_event_that_a_message_contains_is_ignored() -> None:
    messages = Messages(10)
    messages.add([shown(1, "as it is", version=5)])
    messages.apply(Edited(topic=TOPIC, seq=5, at=5, sender=ANN, target=1, data="the same"))
    messages.apply(Edited(topic=TOPIC, seq=4, at=4, sender=ANN, target=1, data="an older one"))
    assert [message.data for message in messages] == ["as it is"]


def test_an_older_answer_changes_nothing() -> None:
    messages = Messages(10)
    messages.add([shown(1, "new", version=5)])
    messages.add([shown(1, "old", version=4)])
    messages.apply(shown(1, "oldest"))
    assert [message.data for message in messages] == ["new"]


@pytest.mark.parametrize("data", ["ab", {"n": 1, "text": "ab"}])
def test_of_a_merged_append_only_the_tail_is_missing(data: Any) -> None:
    messages = Messages(10)
    messages.add([shown(1, data, version=3)])
    messages.apply(
        Appended(
            topic=TOPIC, seq=5, at=5, sender=ANN, target=1, length=5, text="abcde"[1:], first=2
        )
    )
    [message] = messages
    assert message.data == ("abcde" if isinstance(data, str) else {"n": 1, "text": "abcde"})
    assert (message.version, message.state) == (5, "streaming")


def test_messages_are_replaced_and_not_changed() -> None:
    messages = Messages(10)
    before = shown(1, {"text": "a"})
    messages.apply(before)
    messages.apply(reaction(2, 1, "bob"))
    messages.apply(Appended(topic=TOPIC, seq=3, at=3, sender=ANN, target=1, length=2, text="b"))
    assert before == shown(1, {"text": "a"})
    assert messages.get(1) is not before


def test_a_deleted_message_stays_deleted() -> None:
    messages = Messages(10)
    messages.apply(shown(1, "a"))
    messages.apply(reaction(2, 1, "bob"))
    messages.apply(Deleted(topic=TOPIC, seq=3, at=3, sender=ANN, target=1))
    messages.apply(Edited(topic=TOPIC, seq=4, at=4, sender=ANN, target=1, data="again"))
    messages.apply(reaction(5, 1, "eve"))
    deleted = replace(shown(1, None, version=3), deleted=True)
    assert list(messages) == [deleted]


def test_the_eleventh_user_moves_up() -> None:
    messages = Messages(10)
    messages.apply(shown(1, "a"))
    for number in range(12):
        messages.apply(reaction(2 + number, 1, f"user{number}"))
    messages.apply(reaction(20, 1, "user3", remove=True))
    messages.apply(reaction(21, 1, "late"))
    users = [f"user{number}" for number in range(11) if number != 3]
    assert reactions_of(messages) == Reactions(12, users)
    for number in (0, 10):
        messages.apply(reaction(22 + number, 1, f"user{number}", remove=True))
    assert reactions_of(messages) == Reactions(10, [*users[1:9], "user11", "late"])


def test_of_those_whom_history_does_not_name_only_the_number_is_known() -> None:
    messages = Messages(10)
    users = [f"user{number}" for number in range(12)]
    crowd = {"👍": Reactions(12, users[:10])}
    messages.add([replace(shown(1, "a", version=13), reactions=crowd)])
    messages.apply(reaction(20, 1, "late"))
    messages.apply(reaction(21, 1, "user3", remove=True))
    named = [user for user in users[:10] if user != "user3"]
    assert reactions_of(messages) == Reactions(12, named)
    messages.apply(reaction(22, 1, "user10", remove=True))
    assert reactions_of(messages) == Reactions(11, named)
    messages.apply(reaction(23, 1, "user11", remove=True))
    assert reactions_of(messages) == Reactions(10, [*named, "late"])


def test_users_who_are_known_are_bounded() -> None:
    messages = Messages(10)
    messages.apply(shown(1, "a"))
    for number in range(2_000):
        messages.apply(reaction(2 + number, 1, f"user{number}"))
    known = reactions_of(messages)
    assert (known.count, len(known.users)) == (2_000, 10)
    assert isinstance(known.users, _Named)
    assert len(known.users.behind) == MAX_REACTING - 10


def reactions_of(messages: Messages) -> Reactions:
    [message] = messages
    return message.reactions["👍"]


def test_the_oldest_are_dropped() -> None:
    messages = Messages(3)
    for seq in (1, 2, 3, 4, 5):
        messages.apply(shown(seq, seq))
    messages.add([shown(1, 1), shown(2, 2)])
    assert [message.seq for message in messages] == [3, 4, 5]
    assert len(messages) == 3
    assert messages.get(2) is None


def test_changes_of_unknown_messages_are_bounded() -> None:
    messages = Messages(3)
    for seq in range(2, 10_000):
        messages.apply(reaction(seq, 1, "bob"))
    assert len(messages._early) < 1_000


def test_none_are_held_if_none_are_wanted() -> None:
    messages = Messages(0)
    messages.apply(shown(1, 1))
    messages.apply(reaction(2, 1, "bob"))
    assert list(messages) == []
    assert not messages._early


def test_a_gap_empties_it() -> None:
    messages = Messages(3)
    messages.apply(shown(1, 1))
    messages.apply(Gap(topic=TOPIC, epoch="e1", after=1, before=9, reason="expired"))
    assert list(messages) == []


def shown(seq: int, data: object, version: int | None = None) -> Message:
    return Message(topic=TOPIC, seq=seq, at=seq, sender=ANN, data=data, version=version)


def reaction(seq: int, target: int, user: str, *, remove: bool = False) -> Reaction:
    sender = User(user=user)
    return Reaction(
        topic=TOPIC, seq=seq, at=seq, sender=sender, target=target, emoji="👍", remove=remove
    )
