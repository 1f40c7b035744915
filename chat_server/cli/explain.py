"""`chat-server explain`."""

import json

import click

from .answers import Explained, moment, tell_missing, understood
from .asking import Asking
from .options import json_option, operator_options
from .terminal import escape_controls, run, write_line


@click.command()
@click.argument("topic")
@click.argument("seq", type=click.IntRange(min=1))
@click.argument("user", required=False)
@json_option
@operator_options
def explain(topic: str, seq: int, user: str | None, as_json: bool, ask: Asking) -> None:
    """Say why USER did not get the message SEQ of TOPIC.

    Without USER it says which workers heard the message.
    """

    async def work() -> None:
        answer = await ask.get("explain", topic=topic, seq=seq, user=user)
        explained = understood(answer, Explained)
        for line in [json.dumps(answer)] if as_json else _lines(explained, user):
            await write_line(escape_controls(line))
        tell_missing(answer, "did not answer")

    run(work())


def _lines(answer: Explained, user: str | None) -> list[str]:
    lines = [_about(answer)]
    for worker in answer.workers:
        heard = worker.heard_at
        when = f"heard it at {_time(heard)}" if heard else "has no note that it heard it"
        place = "" if worker.seq is None else f", which is at #{worker.seq}"
        lines.append(f"worker {worker.node} {when}; {worker.subscribers} subscribers{place}")
        for story in worker.connections:
            at = f" at {_time(story.at)}" if story.at else ""
            lines.append(f"  connection {story.session}: {story.verdict}{at}")
    if user and not any(worker.connections for worker in answer.workers):
        lines.append(f"no connection of {user} was subscribed in the last quarter of an hour")
    return lines


def _about(answer: Explained) -> str:
    place = f"{answer.topic} #{answer.seq}"
    if not answer.stored:
        ahead = answer.seq > answer.last
        why = f"the last is #{answer.last}" if ahead else "it has expired or was deleted"
        return f"{place} is not stored: {why}"
    sender = answer.sender.user if answer.sender else "the application"
    stored = f"stored at {_time((answer.at or 0) / 1_000)}"
    return f"{place}: {answer.kind} of {sender}, {stored}"


def _time(at: float) -> str:
    found = moment(at)
    return "(no time)" if found is None else found.isoformat(" ", "milliseconds")
