"""Where settings come from, which source wins, and what is said of a wrong one."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
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
    assert all(line.isprintable() for line in caught.value.lines)  # whatever was put into it
    return str(caught.value)


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
    on = Namespace(archive=True, presence=True, read_receipts=True)  # in development
    assert settings.namespaces == {
        "default": on,
        "room": msgspec.structs.replace(on, history_size=5, history_seconds=7.5),
        "empty": on,
    }
    assert settings.namespace("room:lobby").history_size == 5
    assert settings.namespace("room").history_size == 5
    assert settings.namespace("rooms:lobby") == settings.namespaces["default"]


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
    monkeypatch.setattr(module, "config_directory", lambda: copy)
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
        ("LOG__LEVEL", "debug", "DEBUG"),
        ("LOG__FORMAT", "JSON", "json"),
        ("GATEWAY__TRANSPORT", "ASGI", "asgi"),
        ("GATEWAY__TRANSPORT", "Portable", "portable"),
        ("GATEWAY__HEARTBEAT_SECONDS", "86400", 86_400.0),
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
        ("GATEWAY__HEARTBEAT_SECONDS", "86401", "gateway.heartbeat_seconds: must be a number"),
        ("GATEWAY__PONG_TIMEOUT_SECONDS", "1e9", "gateway.pong_timeout_seconds: must be a number"),
        ("SERVER__DRAIN_SECONDS", "86401", "server.drain_seconds: must be a number of seconds"),
        ("LOG__LEVEL", "lo\u0075d", "log.level: must be one of DEBUG, INFO"),
        ("HTTP__PAGE", "maybe", "http.page: must be true or false"),
        ("LOG__LEVEL", "LOUD", "log.level: must be one of DEBUG, INFO"),
        ("AUTH__ALGORITHMS", "none", "auth.algorithms: must be a list of one or more of HS256"),
        ("AUTH__ALGORITHMS", "", "auth.algorithms: must be a list of one or more"),
        ("AUTH__ALGORITHMS", "[HS256", "auth.algorithms: must be a list"),
        ("AUTH__ALGORITHMS", "[5]", "auth.algorithms: must be a list"),
        ("AUTH__ALGORITHMS", "[" * 99_999, "auth.algorithms: must be a list"),
        ("AUTH__TOPICS_CLAIM", "", "auth.topics_claim: must be the name of a claim"),
        ("AUTH__TOPICS_CLAIM", "a b", "auth.topics_claim: must be the name of a claim"),
        ("REDIS__PREFIX", "{x}", "redis.prefix: must be 1 to 64 of the characters"),
        ("REDIS__PREFIX", "x\ny", "redis.prefix: must be 1 to 64 of the characters"),
        ("AUTH__ISSUER", "\udcff", "auth.issuer: must be text"),
        ("AUTH__DEFAULT_TOPICS__SUBSCRIBE", "[[]]", "auth.default_topics.subscribe: must be a li"),
        ("AUTH__DEFAULT_TOPICS", "x", "auth.default_topics: is a group of keys"),
        ("NAMESPACES__ROOM", "x", "namespaces.room: is a group of keys"),
        ("NAMESPACES__ROOM__SIZE", "1", "namespaces.room.size: unknown key"),
        ("REDIS__ULR", "x", "redis.ulr: unknown key; did you mean redis.url?"),
        ("REDIS__URL__X", "x", "redis.url: must be text"),
        ("SERVER__HOST", "x", "server.host: unknown key"),
        ("__".join("A" * 5000), "x", "a: unknown key"),
        ("X\n\x1b[2J__", "x", r"x\n\x1b[2j: unknown key"),
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
        ('a = "\ud800"', "is not valid TOML: it is not encoded in UTF-8"),
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


def test_a_variable_may_name_a_file_with_the_value(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    notes: list[str] = []
    settings = load_settings(environ={"CHAT_AUTH__SECRET__FILE": str(file)}, notes=notes)
    assert (settings.auth.secret, notes) == (SECRET, [])
    file.write_text("12")
    sources: dict[str, str] = {}
    variable = "CHAT_LIMITS__MAX_TOPICS__FILE"
    settings = load_settings(environ={variable: str(file)}, sources=sources)
    assert settings.limits.max_topics == 12
    assert sources["limits.max_topics"] == f"the environment variable {variable}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "the file that it names cannot be read: No such file or directory"),
        (b"\xff", "the file that it names is not encoded in UTF-8"),
        ("é".encode("utf-16-be") * 9, "the file that it names is not encoded in UTF-8"),
        (b"s\0" * 32, "the file that it names holds a NUL: is it encoded in UTF-16?"),
        (b"x" * 70_000, "the file that it names cannot be read: it has more than 65536 bytes"),
    ],
)
def test_a_file_with_no_value_is_told_by_its_variable(
    content: bytes | None, reason: str, tmp_path: Path
) -> None:
    """And not by its name, which may be the secret that somebody has put there."""
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    environ = {"CHAT_AUTH__SECRET__FILE": str(file), "CHAT_ENVIRONMENT": "production"}
    assert refusal(environ) == f"CHAT_AUTH__SECRET__FILE: {reason}"


def test_a_value_and_a_file_exclude_each_other(tmp_path: Path) -> None:
    environ = {"CHAT_AUTH__SECRET__FILE": str(tmp_path), "CHAT_AUTH__SECRET": SECRET}
    assert refusal(environ) == (
        "CHAT_AUTH__SECRET__FILE: only one of it and CHAT_AUTH__SECRET may be set"
    )


@pytest.mark.parametrize("form", ["text", "json"])
def test_mistakes_know_how_they_are_to_be_logged(form: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"CHAT_LOG__FORMAT": form, "CHAT_LIMITS__MAX_TOPICS": "none"})
    assert caught.value.as_json == (form == "json")


def test_a_wrong_flag_is_named() -> None:
    assert refusal(server__workers="x").endswith("(from the command line)")
    assert refusal(server__x=1) == "server.x: unknown key (from the command line)"
    assert refusal(server__workers=object()).startswith("server.workers: must be an integer")


def test_missing_files_of_the_package_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "config_directory", lambda: tmp_path)
    assert f"{tmp_path / 'default.toml'}: cannot be read" in refusal()
    (tmp_path / "default.toml").touch()
    assert f"{tmp_path / 'development.toml'}: cannot be read" in refusal()


def test_a_packaged_config_comes_before_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "chat_server"
    package.mkdir()
    monkeypatch.setattr(module, "__file__", str(package / "settings" / "loading.py"))
    assert module.config_directory() == tmp_path / "config"
    (package / "config").mkdir()
    assert module.config_directory() == package / "config"


KUBERNETES = {
    "{}_SERVICE_HOST": "10.0.0.7",
    "{}_SERVICE_PORT": "8000",
    "{}_SERVICE_PORT_HTTP": "8000",
    "{}_SERVICE_PORT_HTTP_ALT": "8000",
    "{}_PORT": "tcp://10.0.0.7:8000",
    "{}_PORT_8000_TCP": "tcp://10.0.0.7:8000",
    "{}_PORT_8000_TCP_PROTO": "tcp",
    "{}_PORT_8000_TCP_PORT": "8000",
    "{}_PORT_8000_TCP_ADDR": "10.0.0.7",
    "{}_PORT_53_UDP": "udp://10.0.0.7:53",
    "{}_PORT_53_UDP_ADDR": "10.0.0.7",
    "{}_PORT_9_SCTP_PROTO": "sctp",
    "{}_ENV_CHAT_REDIS__URL": "redis://10.0.0.7/0",
}
"""What a Service puts into the environment of every container that starts after it, and Docker into
that of a container that is linked."""


@pytest.mark.parametrize(
    "service",
    [
        *("chat", "chat-server", "chat-redis", "chat-auth", "chat-environment", "chat-namespaces"),
        *("chat--x", "chat-server--x", "chat-redis--url", "chat-namespaces--room", "chat-server-1"),
        *("chat-namespaces--room--history-size", "chat-log-level", "chat-x---y", "chat-http"),
    ],
)
def test_what_kubernetes_names_after_a_service_is_not_ours(service: str) -> None:
    name = service.upper().replace("-", "_")
    links = {key.format(name): value for key, value in KUBERNETES.items()}
    assert load({**links, "CHAT_SERVER__BIND": "[::1]:0"}) == load({"CHAT_SERVER__BIND": "[::1]:0"})


@pytest.mark.parametrize(
    "name", ["CHAT_", "CHAT_TOKEN", "CHAT_AUTH", "CHAT_NAME", "CHAT_ENV_PATH", "CHAT_MODEL_URL"]
)
def test_variables_of_others_are_left_alone(name: str) -> None:
    assert load({name: "x"}) == load()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CHAT_SERVER_BIND", "CHAT_SERVER__BIND, with two underscores?"),
        ("CHAT_AUTH_SECRET", "CHAT_AUTH__SECRET, with two underscores?"),
        ("CHAT_AUTH_SECRETS", "CHAT_AUTH__SECRET, with two underscores?"),
        ("CHAT_REDIS_URL", "CHAT_REDIS__URL, with two underscores?"),
        (
            "CHAT_AUTH_DEFAULT_TOPICS_SUBSCRIBE",
            "CHAT_AUTH__DEFAULT_TOPICS__SUBSCRIBE, with two underscores?",
        ),
        (
            "CHAT_NAMESPACES_ROOM_HISTORY_SIZE",
            "CHAT_NAMESPACES__ROOM__HISTORY_SIZE, with two underscores?",
        ),
        ("CHAT_ENVIROMENT", "CHAT_ENVIRONMENT?"),
    ],
)
def test_a_variable_that_is_nearly_ours_is_told_how_it_is_spelled(name: str, meant: str) -> None:
    assert refusal({name: "x"}) == f"{name}: did you mean {meant}"


def test_a_key_that_a_service_could_not_be_called_is_a_mistake() -> None:
    # The name of a Service ends with a letter or digit.
    assert refusal({"CHAT_SERVER__PORT": "80"}).startswith("server.port: unknown key")


def test_every_mistake_is_told(tmp_path: Path) -> None:
    file = toml(tmp_path, "x = 1\n[limits]\nmax_topics = 0\nmessage_burst = 0\n")
    environ = {
        "CHAT_SERVER_BIND": "x",
        "CHAT_REDIS__ULR": "x",
        "CHAT_HTTP__ALLOWED_ORIGINS": "https://a.example/,https://ok.example,b.example",
        "CHAT_SERVER__BIND": "nowhere:8130",
    }
    lines = refusal(environ, file, server__workers="2").splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "x",
        "limits.max_topics",
        "limits.message_burst",
        "redis.ulr",
        "CHAT_SERVER_BIND",
        "server.workers",
        "http.allowed_origins",
        "http.allowed_origins",
        "server.bind",
    ]


def test_nothing_is_said_of_the_whole_while_a_part_is_unknown(tmp_path: Path) -> None:
    # Development's rules, or those without the file, would accuse keys that are right.
    assert refusal({"CHAT_ENVIRONMENT": "prod"}, server__bind="0.0.0.0:80") == (
        "environment: must be one of development, testing, production "
        "(from the environment variable CHAT_ENVIRONMENT)"
    )
    missing = tmp_path / "missing.toml"
    assert refusal(config_file=missing, server__bind="0.0.0.0:80").startswith(f"{missing}: cannot")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("begin", ["", "\ufeff"])
def test_line_ends_around_a_value_are_left_out_and_noted(
    begin: str, end: str, tmp_path: Path
) -> None:
    notes: list[str] = []
    settings = load_settings(
        config_file=toml(tmp_path, '[auth]\naudience = """chat\n"""'),
        environ={
            "CHAT_AUTH__SECRET": begin + SECRET + end,
            "CHAT_REDIS__URL": begin + "redis://localhost" + end,
            "CHAT_LIMITS__MAX_TOPICS": begin + "5" + end,
        },
        notes=notes,
    )
    assert settings.auth.secret == SECRET
    assert settings.auth.audience == "chat"
    assert settings.redis.url == "redis://localhost"
    assert settings.limits.max_topics == 5
    assert [note.partition(": ")[0] for note in notes] == [
        "auth.audience",
        "auth.secret",
        "limits.max_topics",
        "redis.url",
    ]
    assert all("the line break around the value is left out" in note for note in notes)
    assert SECRET not in "".join(notes)


def test_a_byte_order_mark_before_a_file_is_no_part_of_it(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_bytes(b"\xef\xbb\xbf[limits]\r\nmax_topics = 5\r\n")
    assert load(config_file=file).limits.max_topics == 5
    file.write_bytes("[limits]\nmax_topics = 5".encode("utf-16"))
    assert refusal(config_file=file) == f"{file}: is not valid TOML: it is not encoded in UTF-8"


KEYS = ["SERVER__WORKERS", "HTTP__PAGE", "AUTH__ALGORITHMS", "NAMESPACES__A__HISTORY_SIZE", "X"]


@given(st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text()), st.text(), max_size=3))
def test_any_environment_gives_settings_or_one_line(variables: dict[str, str]) -> None:
    lines: tuple[str, ...] = ()
    try:
        load({f"CHAT_{name}": text for name, text in variables.items()})
    except SettingsError as error:
        lines = error.lines
    assert all(line.isprintable() for line in lines)
