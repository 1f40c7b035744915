"""A real PostgreSQL with its own port and a temporary folder."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from .ports import free_port

READY_SECONDS = 60.0
USER = "chat"

QUICK = {
    # What a SIGKILL leaves is with the system, and not lost: only its crash would need fsync.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
    "log_min_messages": "warning",
}


class PostgresServer:
    """A server that tests may stop, kill and restart; every method blocks.

    Attributes:
        port: the port on 127.0.0.1.

    Raises:
        RuntimeError: PostgreSQL is not installed.
    """

    def __init__(self) -> None:
        self._programs = _programs()
        self._user = _unprivileged()
        self.port = free_port()
        # Not in pytest's folder, which another user may not enter.
        self._folder = Path(tempfile.mkdtemp(prefix="chat-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self._folder / "log"

    def url(self, database: str) -> str:
        """Return the address of one of the server's databases."""
        return f"postgresql+asyncpg://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        data = self._folder / "data"
        if not data.exists():
            if self._user is not None:
                shutil.chown(self._folder, self._user)
            self._run(
                *("initdb", "--pgdata", str(data), "--username", USER, "--auth", "trust"),
                *("--encoding", "UTF8", "--locale", "C", "--no-sync"),
            )
        options = {**QUICK, "listen_addresses": "127.0.0.1", "port": str(self.port)}
        options["unix_socket_directories"] = str(self._folder)
        given = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        deadline = time.monotonic() + READY_SECONDS
        while True:
            self._spawn([str(self._programs / "postgres"), "-D", str(data), *given])
            if self._answers(deadline):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not come up:\n{self._log.read_text()}")
            time.sleep(0.1)  # After a SIGKILL its children take a moment to end.

    def stop(self) -> None:
        """End the server at once, and remove its folder."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def crash(self) -> None:
        """End the server as `pg_ctl stop -m immediate` does: the next start runs recovery."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """The parent of all other processes of the server."""
        assert self._process is not None
        return self._process.pid

    def restart(self) -> None:
        """Kill the server if it runs, and start it again with its stored data."""
        self.kill()
        self.start()

    def create(self, name: str, template: str = "template0") -> str:
        """Create a database, and return its address."""
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def execute(self, sql: str, database: str = "postgres") -> str:
        """Run statements, and return the rows in psql's format."""
        return self._run(
            *("psql", "--host", "127.0.0.1", "--port", str(self.port), "--username", USER),
            *("--no-psqlrc", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"),
            *("--dbname", database, "--command", sql),
        ).strip()

    def _spawn(self, command: list[str]) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self._user
            )

    def _answers(self, deadline: float) -> bool:
        """Wait until the server answers or has ended; return True for an answer."""
        assert self._process is not None
        ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while self._process.poll() is None and time.monotonic() < deadline:
            if subprocess.run([*ready, "-d", "postgres"], check=False).returncode == 0:
                return True
            time.sleep(0.02)
        return False

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            cwd=self._folder,
            user=self._user,
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}")
        return done.stdout


def _programs() -> Path:
    """Return the folder with the programs of the newest installed server."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if found:
        return max(found, key=lambda path: int(path.parts[-3].partition(".")[0])).parent
    program = shutil.which("postgres")
    if program is None:
        raise RuntimeError("PostgreSQL is not installed: `apt-get install postgresql`")
    return Path(program).resolve().parent


def _unprivileged() -> str | None:
    """Return the user to run as; None for our own user. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
