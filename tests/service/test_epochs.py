"""Changes that say in which epoch their message is."""

from typing import Any

import pytest

from chat_server.protocol import commands
from chat_server.protocol.errors import NotFound
from chat_server.service.service import Service

from .test_changing import ANN, ROOM, append, delete, draft, edit, gathering, raw, react, shown


@pytest.mark.parametrize("make", [edit, append, delete, react])
async def test_a_seq_of_another_epoch_is_not_found(service: Service, make: Any) -> None:
    place = await service.perform(ANN, commands.Publish(topic=ROOM, data=raw({"text": "a"})))
    with pytest.raises(
        NotFound, match=f"epoch: the topic has begun anew since, without message {place.seq}$"
    ) as caught:
        await service.perform(ANN, make(place.seq, epoch="elsewhere"))
    assert caught.value.topic == ROOM
    assert "version" not in (await shown(service))[0]
    assert (await service.perform(ANN, make(place.seq, epoch=place.epoch))).target == place.seq


async def test_those_of_another_epoch_are_events_of_their_own() -> None:
    log, appends = gathering()
    epochs = [None, "one", "one", "two", "two", None, None]
    for number, epoch in enumerate(epochs):
        appends.append(draft(str(number), epoch=epoch))
    for _ in range(4):
        await log.answer()
    assert log.texts() == [["0"], ["1", "2"], ["3", "4"], ["5", "6"]]
    assert [change.epoch for change, _ in log.asked] == [None, "one", "two", None]
