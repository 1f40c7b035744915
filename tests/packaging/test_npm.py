"""The package for npm: what is packed, its types, and that it works where it is installed.

TypeScript, esbuild and terser come with `make test` (scripts/test-programs.sh), in the versions
that the package names.
"""

import gzip
import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from chat_server.protocol.errors import ERRORS
from chat_server.version import __version__

from ..architecture.source import ROOT
from ..docs.markdown import blocks
from ..rig.node import WEB, node
from ..rig.server import ServerProcess, mint
from .conftest import NPM
from .programs import run

PACKAGE = json.loads((NPM / "package.json").read_text("utf-8"))
NAME = PACKAGE["name"]
TOOLS = ROOT / ".venv" / "npm" / "node_modules" / ".bin"
HERE = Path(__file__).parent
CLIENT_TESTS = HERE.parent / "browser_client"

KIB = 1024

CONVERSATION = """
import { ChatClient } from "quart-chat-client";
import { Faults, faultyWebSocket, generator } from "./faulty_socket.mjs";

const [url, token] = process.argv.slice(2);
const calm = Object.assign(new Faults(generator(1), 0), { active: false });
const chat = new ChatClient({ url, token, WebSocket: faultyWebSocket(calm) });
const heard = new Promise((onEvent) => chat.subscribe("room:npm", { last: 1, onEvent }));
await chat.publish("room:npm", "hello");
console.log((await heard).data);
chat.close();
"""


def tool(name: str) -> Path:
    """Return the path of a program that `make test` installs from npm, or skip the test."""
    node()
    if not (TOOLS / name).exists():
        pytest.skip(f"needs {name}: scripts/test-programs.sh installs it")
    return TOOLS / name


@pytest.fixture(scope="module")
def installed(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty folder in which the archive is installed, without a registry."""
    folder = tmp_path_factory.mktemp("application")
    (folder / "package.json").write_text('{"type": "module"}')
    install = ["npm", "install", "--offline", "--no-audit", "--no-fund", str(packed)]
    run(*install, cwd=folder)
    return folder


def test_what_is_packed(packed: Path) -> None:
    with tarfile.open(packed) as archive:
        names = set(archive.getnames())
    modules = {path.stem for path in WEB.glob("client*.js")}
    assert names == {
        *(f"package/dist/{name}.js" for name in modules - {"client-types"}),
        *(f"package/types/{name}.d.ts" for name in modules),
        *("package/package.json", "package/README.md", "package/LICENSE"),
    }


def test_it_says_what_the_server_says() -> None:
    assert PACKAGE["version"] == __version__
    assert (NPM / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert "dependencies" not in PACKAGE


def test_it_works_where_it_is_installed(installed: Path) -> None:
    (installed / "talk.js").write_text(CONVERSATION)
    shutil.copy(CLIENT_TESTS / "faulty_socket.mjs", installed)
    with ServerProcess() as server:
        # Node ends by itself: nothing of the client is left.
        assert run(node(), "talk.js", server.ws_url, mint("node"), cwd=installed) == "hello\n"


@pytest.mark.extra
@pytest.mark.timeout(300)  # npm installs Deno, of 90 MB
def test_the_examples_for_node_and_deno(packed: Path, tmp_path: Path) -> None:
    document = blocks((ROOT / "docs" / "browser.md").read_text("utf-8"))
    examples = [b.text for b in document if b.heading == "In Node and Deno" and b.kind == "js"]
    (tmp_path / "package.json").write_text('{"type": "module"}')
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    run(*install, "ws@8", "deno@2", packed, cwd=tmp_path, seconds=200)
    with ServerProcess() as server:
        host = server.url.removeprefix("http://")
        for example, name in zip(examples, ("node.js", "deno.js"), strict=True):
            script = example.replace("127.0.0.1:8000", host)
            script = script.replace("process.env.CHATCLIENT_TOKEN", "process.argv[2]")
            (tmp_path / name).write_text(script)
        assert run(node(), "node.js", mint("node"), cwd=tmp_path) == "1\n"
        deno = tmp_path / "node_modules/.bin/deno"
        flags = ["run", "--allow-net", "--allow-import", "--no-config", "--no-lock"]
        assert run(deno, *flags, "deno.js", mint("deno"), cwd=tmp_path) == "2\n"


def test_the_types_are_those_of_the_sources(tmp_path: Path) -> None:
    run(tool("tsc"), "-p", NPM / "tsconfig.json", "--outDir", tmp_path, cwd=NPM)
    made, kept = (
        {path.name: path.read_text("utf-8") for path in folder.iterdir()}
        for folder in (tmp_path, NPM / "types")
    )
    assert made == kept, "run `npm run types` in packaging/npm"


def test_the_sources_keep_to_their_types() -> None:
    config = NPM / "tsconfig.json"
    run(tool("tsc"), "-p", config, "--checkJs", "--strict", "false", "--noEmit", cwd=NPM)


def test_what_it_adds_to_an_application(installed: Path) -> None:
    """All verbs; without `Messages`, which a bundler leaves out where nobody uses it."""
    (installed / "all.js").write_text(f'export {{ ChatClient, ChatError }} from "{NAME}";')
    bundle = ["all.js", "--bundle", "--minify", "--format=esm", "--outfile=bundle.js"]
    run(tool("esbuild"), *bundle, "--log-level=error", cwd=installed)
    minify = ["--module", "--compress", "passes=3", "--mangle", "--output", "least.js"]
    run(tool("terser"), "bundle.js", *minify, cwd=installed)
    size = len(gzip.compress((installed / "least.js").read_bytes(), 9))
    assert size < 9 * KIB, size


def test_what_a_server_sends() -> None:
    """Hold the size where there is no minifier, too: with comments, each module by itself."""
    modules = [path for path in WEB.glob("client*.js") if path.stem != "client-types"]
    size = sum(len(gzip.compress(path.read_bytes())) for path in modules)
    assert size < 31 * KIB, size


@pytest.mark.parametrize("resolution", ["nodenext", "bundler"])
def test_a_strict_program_compiles(resolution: str, installed: Path) -> None:
    shutil.copy(CLIENT_TESTS / "program.mts", installed)
    module = "nodenext" if resolution == "nodenext" else "esnext"
    flags = ["--strict", "--noEmit", "--target", "es2022", "--lib", "es2022", "--types", ""]
    flags += [
        "--exactOptionalPropertyTypes",
        "--noUncheckedIndexedAccess",
        "--skipLibCheck",
        "false",
    ]
    flags += ["--module", module, "--moduleResolution", resolution, "--ignoreConfig"]
    document = blocks((ROOT / "docs" / "browser.md").read_text("utf-8"))
    [example] = [block.text for block in document if block.kind == "ts"]
    console = "declare const console: { log(...values: unknown[]): void };\n"
    (installed / "example.mts").write_text(console + example, "utf-8")
    run(tool("tsc"), *flags, "program.mts", "example.mts", cwd=installed)


def test_the_types_name_every_method_and_every_error() -> None:
    """Hold the types where there is no TypeScript, too."""
    types = (NPM / "types" / "client.d.ts").read_text("utf-8")
    source = (WEB / "client.js").read_text("utf-8")
    declared = re.findall(r"^    (\w+)\(", types, re.MULTILINE)
    assert declared == re.findall(r"^  (?:async )?(\w+)\(.*\{$", source, re.MULTILINE)

    types = (NPM / "types" / "client-types.d.ts").read_text("utf-8")
    [codes] = re.findall(r"type ErrorCode = ([^;]+);", types)
    page = (ROOT / "docs" / "browser.md").read_text("utf-8")
    own = re.findall(r"^\| `(\w+)` \|", page[page.index("## Errors") :], re.MULTILINE)
    by_http = {"method_not_allowed", "upgrade_required", "invalid"}
    expected = {*own, *(error.code for error in ERRORS)} - by_http
    assert set(re.findall(r'"(\w+)"', codes)) == expected
