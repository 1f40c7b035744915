"""What holds in a namespace that the settings name, and say little of."""

from msgspec.structs import replace

from chat_server.settings import Namespace, Settings, load_settings

ON = Namespace(archive=True, presence=True, read_receipts=True)


def load(**flags: object) -> Settings:
    named = {f"namespaces.{key.replace('__', '.')}": value for key, value in flags.items()}
    return load_settings(environ={}, flags=named)


def test_one_that_is_named_keeps_what_development_has_on() -> None:
    settings = load(room__history_size=5, bots__archive=False, cursor__history_size=0)
    assert settings.namespaces == {
        "default": ON,
        "room": replace(ON, history_size=5),
        "bots": replace(ON, archive=False),
        "cursor": replace(ON, history_size=0, archive=False),
    }


def test_what_is_off_for_all_is_off_in_those_that_are_named() -> None:
    settings = load(default__archive=False, room__history_size=5)
    assert settings.namespaces["room"] == replace(ON, history_size=5, archive=False)


def test_the_other_environments_have_nothing_on() -> None:
    flags = {"environment": "testing", "namespaces.room.history_size": 5}
    settings = load_settings(environ={}, flags=flags)
    assert settings.namespaces["room"] == Namespace(history_size=5)
