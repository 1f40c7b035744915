"""Many publications of one actor, in one request."""

import asyncio
import logging

from ..metrics.numbers import Numbers
from ..protocol.batch import BatchOk, ItemResult, failed, stored
from ..protocol.codecs import JSON
from ..protocol.commands import Publish
from ..protocol.errors import BadRequest, ChatError, Internal
from ..protocol.messages import PublishOk
from ..realtime.refusals import count_refusal
from .actor import Actor
from .answers import Answer, unfinished
from .service import Service

logger = logging.getLogger(__name__)


async def publish_batch(service: Service, actor: Actor, body: bytes) -> BatchOk:
    """Publish the messages of a batch, and return a result for each, in their order.

    Every message is checked, counted and stored like a single message, and fails alone. All
    messages go to the broker before the first result is awaited. No message after the first
    rate-limited one is accepted, so that a repetition of these keeps the order.

    The caller has called `Service.limit_requests`, which counts the first message.

    Args:
        service: runs each publication.
        actor: the publisher.
        body: a JSON object with `messages`; the caller bounds its size.

    Raises:
        BadRequest: the body is no such object, or has too many messages or none.
    """
    try:
        items = JSON.decode_batch(body).messages
    except BadRequest:
        service.charge_request(actor, len(body))
        raise
    started = _start(service, actor, [bytes(item) for item in items])
    await _wait(started, service.node.settings.http.request_timeout_seconds)
    numbers = service.node.numbers
    results = [_result(each, numbers) for each in started]
    for result in results:
        outcome = "ok" if result.error is None else result.error.code
        numbers.commands[Publish, outcome] += 1
    return BatchOk(results=results)


def _start(service: Service, actor: Actor, items: list[bytes]) -> list[Answer | ChatError]:
    """Start to publish each of `items`; return a future answer or the refusal for each."""
    service.charge_request(actor, len(items[0]))
    passed, error = service.limit_batch(actor, list(map(len, items[1:])))
    # Topics of the messages so far with the actor's grant to publish.
    allowed: set[str] = set()
    started = [_publish(service, actor, item, allowed) for item in items[: passed + 1]]
    return started if error is None else started + [error] * (len(items) - len(started))


def _publish(service: Service, actor: Actor, item: bytes, allowed: set[str]) -> Answer | ChatError:
    try:
        command = JSON.decode_publication(item)
        topic = command.topic
        answer = service.execute(actor, command, authorized=topic in allowed)
    except ChatError as error:
        return error
    except Exception:
        return _fault()
    allowed.add(topic)
    assert isinstance(answer, Answer)  # noqa: S101 - that is what `publish` returns
    return answer


async def _wait(started: list[Answer | ChatError], seconds: float) -> None:
    """Wait for all answers; give up the late ones."""
    futures = [each.future for each in started if isinstance(each, Answer)]
    if all(future.done() for future in futures):
        return
    try:
        await asyncio.wait(futures, timeout=seconds)
    finally:
        for future in futures:
            if not future.cancel() and not future.cancelled():
                # If the request was cancelled, nobody else looks at the errors.
                future.exception()


def _result(started: Answer | ChatError, numbers: Numbers) -> ItemResult:
    if isinstance(started, ChatError):
        count_refusal(numbers, started)
        return failed(started)
    if started.future.cancelled():
        return failed(unfinished())
    try:
        ok = started.make_ok(started.future.result())
    except ChatError as error:
        count_refusal(numbers, error)
        return failed(error)
    except Exception:
        return failed(_fault())
    assert isinstance(ok, PublishOk)  # noqa: S101 - that is what `publish` answers
    return stored(ok)


def _fault() -> Internal:
    logger.exception("a message of a batch failed")
    return Internal("something went wrong; it has been logged")
