"""What docs/tokens.md says of tokens and issuers is so."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from chat_server.auth.claims import TopicGrants
from chat_server.auth.permissions import allows
from chat_server.auth.tokens import Verifier
from chat_server.clock import SystemClock
from chat_server.protocol.errors import Unauthorized
from chat_server.protocol.topics import topic_segment
from chat_server.settings import Settings, load_settings
from tests.auth.key_server import serve_keys, sign

from ..rig.server import ServerProcess
from .issuers import SECRET, TOPICS, issued
from .markdown import ROOT, blocks, code, section, tables
from .walk import SECONDS, Walk

PAGE = (ROOT / "docs/tokens.md").read_text("utf-8")
ROWS = tables(section(PAGE, "With an issuer"))[0]
KEYS = [name for column in ROWS[0] for name in code(column)]


def only(kind: str, heading: str) -> str:
    [found] = [b.text for b in blocks(section(PAGE, heading)) if b.kind == kind]
    return found


def settings_of(row: dict[str, str], **changes: str) -> Settings:
    """Return the settings in a row of the table, for production."""
    values = {key: "".join(code(row[f"`{key}`"])) for key in KEYS} | changes
    environ = {
        f"CHAT_{key.replace('.', '__').upper()}": value for key, value in values.items() if value
    }
    if values["auth.algorithms"] == "HS256":
        environ["CHAT_AUTH__SECRET"] = SECRET
    environ["CHAT_AUTH__DEFAULT_TOPICS__HISTORY"] = "room:**"
    return load_settings(environ={"CHAT_ENVIRONMENT": "production", **environ})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["issuer"])
async def test_the_settings_of_an_issuer_take_its_tokens(row: dict[str, str]) -> None:
    assert settings_of(row).auth.issuer
    with serve_keys() as server:
        local = {"auth.jwks_url": server.url} if code(row["`auth.jwks_url`"]) else {}
        settings = settings_of(row, **local)
        auth = settings.auth
        made = issued(row["issuer"], auth.issuer, auth.audience)
        server.body = made.keys
        subject = Verifier(auth, SystemClock())
        claims = await subject.verify(made.token)
        assert claims.sub == made.sub
        asked = TOPICS if code(row["`auth.topics_claim`"]) else {}
        assert claims.topics == TopicGrants(
            history=("room:**",), **{action: tuple(patterns) for action, patterns in asked.items()}
        )
        if asked:
            assert allows(claims.topics.subscribe, f"user:{topic_segment(made.sub)}", made.sub)
        others = [issued(row["issuer"], "https://evil.example/", auth.audience)]
        if auth.audience:
            others.append(issued(row["issuer"], auth.issuer, "another"))
        for other in others:
            with pytest.raises(Unauthorized, match=r"`iss`|`aud`"):
                await subject.verify(other.token)


def test_the_first_row_in_full() -> None:
    table = settings_of(ROWS[0])
    file = only("toml", "With an issuer")
    assert file.startswith('environment = "production"')
    for key in KEYS:
        name = key.partition(".")[2]
        value: Any = getattr(table.auth, name)
        assert (
            f"{name} = {json.dumps(list(value) if isinstance(value, tuple) else value)}\n" in file
        )


def test_a_stranger_gets_a_server_in_production_and_a_token(tmp_path: Path) -> None:
    [first, *rest] = [b.text for b in blocks(section(PAGE, "With a secret")) if b.kind == "sh"]
    names = ("CHAT_ENVIRONMENT", "CHAT_AUTH__SECRET")
    show = f'{first}\nprintf "%s\\n" ' + " ".join(f'"${name}"' for name in names)
    lines = subprocess.check_output(["bash", "-c", show], text=True, timeout=SECONDS).splitlines()
    environ = dict(zip(names, lines, strict=True))
    assert environ["CHAT_ENVIRONMENT"] == "production"
    with ServerProcess(environ=environ) as server:
        walk = Walk(server, tmp_path)
        walk.environ |= environ
        walk.follow(PAGE.replace(f"```sh\n{first}```", ""))
        assert walk.followed == [text.strip() for text in rest]


async def test_an_issuer_in_a_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"CHAT_ENVIRONMENT": "production", "CHAT_AUTH__SECRET": SECRET}
    monkeypatch.setenv("CHAT_AUTH__SECRET", SECRET)
    namespace: dict[str, Any] = {}
    exec(only("python", "With a secret"), namespace)
    token = namespace["token_for"]("bob+test@example.org", "Bob")
    claims = await Verifier(load_settings(environ=environ).auth, SystemClock()).verify(token)
    assert (claims.sub, claims.name) == ("bob+test@example.org", "Bob")
    assert claims.topics.history == ("room:**",)
    assert (claims.expires_at or 0) > time.time() + 3000


async def test_the_example_is_a_token() -> None:
    claims = json.loads(only("json", "What a token must have"))
    auth = load_settings(environ={"CHAT_AUTH__SECRET": SECRET}).auth
    token = sign("HS256", SECRET, claims | {"exp": int(time.time()) + 60})
    assert (await Verifier(auth, SystemClock()).verify(token)).name == "Alice"


def test_the_segment_in_javascript_is_the_server_s() -> None:
    snippet = only("js", "What a token must have")
    users = ["alice", "bob+test@example.org", "auth0|7", "a~b", "é😀", "a:b/c *{sub}%", "A.b_c-d"]
    probe = f"{snippet}\nconsole.log(JSON.stringify({json.dumps(users)}.map(segment)))"
    shown = subprocess.check_output(["node", "-e", probe], text=True, timeout=SECONDS)
    assert json.loads(shown) == [topic_segment(user) for user in users]
