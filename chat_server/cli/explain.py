"""`chat-server explain`."""

import json
from datetime import datetime
from typing import Any

import click

from .asking import Asking, understood
from .operators import tell_missing
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
        for line in [json.dumps(answer)] if as_json else _lines(answer, user):
            await write_line(escape_controls(line))
        tell_missing(answer, "did not answer")

    run(understood(work()))


def _lines(answer: dict[str, Any], user: str | None) -> list[str]:
    lines = [_about(answer)]
    for worker in answer["workers"]:
        heard = worker["heard_at"]
        when = f"heard it at {_time(heard)}" if heard else "has no note that it heard it"
        place = "" if worker["seq"] is None else f", which is at #{worker['seq']}"
        lines.append(f"worker {worker['node']} {when}; {worker['subscribers']} subscribers{place}")
        for story in worker["connections"]:
            at = f" at {_time(story['at'])}" if story["at"] else ""
            lines.append(f"  connection {story['session']}: {story['verdict']}{at}")
    if user and not any(worker["connections"] for worker in answer["workers"]):
        lines.append(f"no connection of {user} was subscribed in the last quarter of an hour")
    return lines


def _about(answer: dict[str, Any]) -> str:
    place = f"{answer['topic']} #{answer['seq']}"
    if not answer["stored"]:
        ahead = answer["seq"] > answer["last"]
        why = f"the last is #{answer['last']}" if ahead else "it has expired or was deleted"
        return f"{place} is not stored: {why}"
    sender = (answer["sender"] or {}).get("user", "the application")
    return f"{place}: {answer['kind']} of {sender}, stored at {_time(answer['at'] / 1_000)}"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).isoformat(" ", "milliseconds")
