"""Where settings come from, which source wins, and what is said of a wrong one."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.settings import (
    DEVELOPMENT_SECRET,
    Namespace,
    Settings,
    SettingsError,
    load_settings,
)
from chat_server.settings import loading as module

SECRET = "0123456789abcdef" * 2
CONFIG = Path(module.__file__).parents[2] / "config"


def load(
    environ: Mapping[str, str] | None = None, config_file: Path | None = None, **flags: object
) -> Settings:
    return load_settings(
        environ=environ or {},
        config_file=config_file,
        flags={key.replace("__", "."): value for key, value in flags.items()},
    )


def refusal(
    environ: Mapping[str, str] | None = None, config_file: Path | None = None, **flags: object
) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environ, config_file, **flags)
    line = str(caught.value)
    assert line.isprintable()  # one line, whatever was put into it
    return line


def toml(directory: Path, text: str) -> Path:
    file = directory / "my.toml"
    file.write_text(text)
    return file


def test_development_works_without_any_setting() -> None:
    settings = load()
    assert settings.environment == "development"
    assert settings.auth.secret == DEVELOPMENT_SECRET
    assert settings.auth.default_topics.subscribe == ("room:**", "user:{sub}")
    assert settings.auth.default_topics.publish == ("room:**",)
    assert settings.auth.default_topics.history == ("room:**",)
    assert settings.auth.default_topics.presence == ("room:**",)
    assert settings.auth.default_topics.moderate == ()
    assert settings.server == Settings().server


def test_testing_takes_any_port() -> None:
    settings = load({"CHAT_ENVIRONMENT": "testing"})
    assert settings.environment == "testing"
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 0)
    assert settings.auth.secret == DEVELOPMENT_SECRET


def test_production_needs_a_secret_only() -> None:
    settings = load({"CHAT_ENVIRONMENT": "production", "CHAT_AUTH__SECRET": SECRET})
    assert settings.environment == "production"
    assert settings.auth.default_topics == Settings().auth.default_topics


def test_later_sources_win_key_by_key(tmp_path: Path) -> None:
    file = toml(
        tmp_path,
        """
        [limits]
        max_topics = 1
        message_burst = 1
        max_replay = 1
        [namespaces.room]
        history_size = 5
        [namespaces.empty]
        """,
    )
    settings = load(
        {
            "CHAT_LIMITS__MESSAGE_BURST": "2",
            "CHAT_LIMITS__MAX_REPLAY": "2",
            "CHAT_NAMESPACES__ROOM__HISTORY_SECONDS": "7.5",
        },
        file,
        limits__max_replay=3,
        limits__max_topics=None,
    )
    assert settings.limits.max_topics == 1
    assert settings.limits.message_burst == 2
    assert settings.limits.max_replay == 3
    assert settings.limits.max_message_bytes == 65_536
    assert settings.namespaces == {
        "default": Namespace(),
        "room": Namespace(history_size=5, history_seconds=7.5),
        "empty": Namespace(),
    }
    assert settings.namespace("room:lobby").history_size == 5
    assert settings.namespace("room").history_size == 5
    assert settings.namespace("rooms:lobby") == Namespace()


def test_any_source_but_its_own_file_chooses_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = toml(tmp_path, 'environment = "testing"')
    assert load(config_file=file).environment == "testing"
    assert load(config_file=file).server.port == 0
    assert load({"CHAT_ENVIRONMENT": "development"}, file).environment == "development"
    assert load({"CHAT_ENVIRONMENT": "production"}, environment="testing").server.port == 0
    copy = tmp_path / "config"
    shutil.copytree(CONFIG, copy)
    monkeypatch.setattr(module, "_config_directory", lambda: copy)
    own = copy / "development.toml"
    own.write_text('environment = "production"')
    assert refusal() == f"environment: must not be changed by the file it chose (from {own})"


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_SERVER__BIND", "[::1]:0")
    monkeypatch.setenv("CHATTER", "not ours")
    assert load_settings().server.host == "::1"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("SERVER__WORKERS", "1", 1),
        ("LIMITS__MAX_TOPICS", "12", 12),
        ("LIMITS__MESSAGES_PER_SECOND", "1.5", 1.5),
        ("LIMITS__MESSAGES_PER_SECOND", "2", 2.0),
        ("HTTP__PAGE", "false", False),
        ("HTTP__PAGE", "0", False),
        ("HTTP__PAGE", "TRUE", True),
        ("AUTH__ISSUER", "", ""),
        ("AUTH__ISSUER", "a,b", "a,b"),
        ("AUTH__ISSUER", "[1]", "[1]"),
        ("AUTH__ISSUER", "true", "true"),
        ("AUTH__ISSUER", "null", "null"),
        ("AUTH__ALGORITHMS", "HS256", ("HS256",)),
        ("AUTH__ALGORITHMS", "HS256, HS512,", ("HS256", "HS512")),
        ("AUTH__ALGORITHMS", ' ["HS256", "HS512"]', ("HS256", "HS512")),
        ("AUTH__DEFAULT_TOPICS__SUBSCRIBE", "", ()),
        ("AUTH__DEFAULT_TOPICS__SUBSCRIBE", "[]", ()),
        ("AUTH__DEFAULT_TOPICS__SUBSCRIBE", "a:*,user:{sub}", ("a:*", "user:{sub}")),
        ("LOG__LEVEL", "DEBUG", "DEBUG"),
        ("REDIS__PREFIX", "my-chat:1", "my-chat:1"),
    ],
)
def test_environment_variables_are_read_by_type(name: str, text: str, expected: object) -> None:
    value: Any = load({f"CHAT_{name}": text})
    for part in name.lower().split("__"):
        value = getattr(value, part)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("value", [("HS256", "HS512"), ["HS256", "HS512"], "HS256,HS512"])
def test_flags_are_values_or_text(value: object) -> None:
    assert load(auth__algorithms=value).auth.algorithms == ("HS256", "HS512")
    assert load(limits__max_topics="5").limits.max_topics == 5


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("SERVER__WORKERS", "two", "server.workers: must be an integer, 1 to"),
        ("SERVER__WORKERS", "", "server.workers: must be an integer"),
        ("SERVER__WORKERS", "0", "server.workers: must be an integer, 1 to"),
        ("SERVER__WORKERS", "1.5", "server.workers: must be an integer"),
        ("SERVER__WORKERS", "9" * 5000, "server.workers: must be an integer"),
        ("SERVER__DRAIN_SECONDS", "-1", "server.drain_seconds: must be a number of seconds"),
        ("SERVER__DRAIN_SECONDS", "nan", "server.drain_seconds: must be a number"),
        ("SERVER__DRAIN_SECONDS", "inf", "server.drain_seconds: must be a number"),
        ("SERVER__DRAIN_SECONDS", "1e400", "server.drain_seconds: must be a number"),
        ("GATEWAY__HEARTBEAT_SECONDS", "0", "gateway.heartbeat_seconds: must be a number"),
        ("HTTP__PAGE", "maybe", "http.page: must be true or false"),
        ("LOG__LEVEL", "LOUD", "log.level: must be one of DEBUG, INFO"),
        ("LOG__LEVEL", "info", "log.level: must be one of DEBUG, INFO"),
        ("AUTH__ALGORITHMS", "none", "auth.algorithms: must be a list of one or more of HS256"),
        ("AUTH__ALGORITHMS", "", "auth.algorithms: must be a list of one or more"),
        ("AUTH__ALGORITHMS", "[HS256", "auth.algorithms: must be a list"),
        ("AUTH__ALGORITHMS", "[5]", "auth.algorithms: must be a list"),
        ("AUTH__ALGORITHMS", "[" * 99_999, "auth.algorithms: must be a list"),
        ("REDIS__PREFIX", "{x}", "redis.prefix: must be 1 to 64 of the characters"),
        ("REDIS__PREFIX", "x\n", "redis.prefix: must be 1 to 64 of the characters"),
        ("AUTH__ISSUER", "\udcff", "auth.issuer: must be text"),
        ("AUTH__DEFAULT_TOPICS__SUBSCRIBE", "[[]]", "auth.default_topics.subscribe: must be a li"),
        ("AUTH", "x", "auth: is a group of keys"),
        ("AUTH__DEFAULT_TOPICS", "x", "auth.default_topics: is a group of keys"),
        ("NAMESPACES", "x", "namespaces: is a group of keys"),
        ("NAMESPACES__ROOM", "x", "namespaces.room: is a group of keys"),
        ("NAMESPACES__ROOM__SIZE", "1", "namespaces.room.size: unknown key"),
        ("REDIS__ULR", "x", "redis.ulr: unknown key; did you mean redis.url?"),
        ("REDIS__URL__X", "x", "redis.url: must be text"),
        ("REDIS_URL", "x", "redis_url: unknown key"),
        ("SERVER__HOST", "x", "server.host: unknown key"),
        ("TOKEN", "x", "token: unknown key"),
        ("", "x", ": unknown key"),
        ("__".join("A" * 5000), "x", "a: unknown key"),
        ("X\n\x1b[2J", "x", r"x\n\x1b[2j: unknown key"),
    ],
)
def test_a_wrong_variable_is_named(name: str, text: str, reason: str) -> None:
    line = refusal({f"CHAT_{name}": text})
    assert line.startswith(reason)
    assert "(from the environment variable CHAT_" in line


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = 1", "x: unknown key"),
        ("[x]", "x: unknown key"),
        ("[server]\nx = 1", "server.x: unknown key"),
        ("[auth.default_topics]\nsubcribe = []", "did you mean auth.default_topics.subscribe?"),
        ("server = 1", "server: is a group of keys"),
        ("[[server]]", "server: is a group of keys"),
        ('[server]\nworkers = "1"', "server.workers: must be an integer"),
        ("[server]\nworkers = true", "server.workers: must be an integer"),
        ("[server]\nworkers = 1.0", "server.workers: must be an integer"),
        ("[server]\nworkers = {}", "server.workers: must be an integer"),
        ("[server]\nbind = 1979-05-27", "server.bind: must be text"),
        ("[server]\ndrain_seconds = nan", "server.drain_seconds: must be a number"),
        ("[http]\npage = 1", "http.page: must be true or false"),
        ('[http]\nallowed_origins = "a,b"', "http.allowed_origins: must be a list of strings"),
        ("[http]\nallowed_origins = [1]", "http.allowed_origins: must be a list of strings"),
        ('[namespaces]\n"a\\nb" = 1', r"namespaces.a\nb: is a group of keys"),
        ("[server", "is not valid TOML"),
        ("a = " + "[" * 50_000, "is not valid TOML"),
        ('a = "\ud800"', "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_named(text: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_bytes(text.encode(errors="surrogatepass"))
    line = refusal(config_file=file)
    assert reason in line
    assert str(file) in line


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert refusal(config_file=missing) == f"{missing}: cannot be read: No such file or directory"
    assert refusal(config_file=tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


def test_a_wrong_flag_is_named() -> None:
    assert refusal(server__workers="x").endswith("(from the command line)")
    assert refusal(server__x=1) == "server.x: unknown key (from the command line)"
    assert refusal(server__workers=object()).startswith("server.workers: must be an integer")


def test_missing_files_of_the_package_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_config_directory", lambda: tmp_path)
    assert f"{tmp_path / 'default.toml'}: cannot be read" in refusal()
    (tmp_path / "default.toml").touch()
    assert f"{tmp_path / 'development.toml'}: cannot be read" in refusal()


def test_a_packaged_config_comes_before_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "chat_server"
    package.mkdir()
    monkeypatch.setattr(module, "__file__", str(package / "settings" / "loading.py"))
    assert module._config_directory() == tmp_path / "config"
    (package / "config").mkdir()
    assert module._config_directory() == package / "config"


KEYS = ["SERVER__WORKERS", "HTTP__PAGE", "AUTH__ALGORITHMS", "NAMESPACES__A__HISTORY_SIZE", "X"]


@given(st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text()), st.text(), max_size=3))
def test_any_environment_gives_settings_or_one_line(variables: dict[str, str]) -> None:
    try:
        load({f"CHAT_{name}": text for name, text in variables.items()})
    except SettingsError as error:
        line = str(error)
    else:
        line = "fine"
    assert line.isprintable()
