"""The program in a real terminal and without one: questions, widths, Ctrl-C, no traceback."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .program import ENVIRON, SECONDS

COMMAND = (sys.executable, "-m", "chat_server")
END = b"\x04"
INTERRUPT = b"\x03"


class Screen:
    """A pseudo terminal with a program in it."""

    def __init__(self, process: "subprocess.Popen[bytes]", leader: int) -> None:
        self.process = process
        self._leader = leader
        self.shown = ""

    def read_until(self, text: str) -> None:
        """Read what is shown until it has `text`, or the program has ended."""
        while text not in self.shown:
            try:
                chunk = os.read(self._leader, 4_096)
            except OSError:  # Linux says so once the last program has closed the terminal.
                chunk = b""
            assert chunk, f"{text!r} is not shown: {self.shown!r}"
            self.shown += chunk.decode()

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._leader, keys)

    def end(self, again: bytes = b"") -> int:
        """Read the rest, and return the exit code; keys are pressed again each second until then.

        `input()` of CPython hears a Ctrl-C between its prompt and its read with the next key only.
        """
        try:
            while True:
                if again and not select.select([self._leader], [], [], 1)[0]:
                    self.type(again)
                elif chunk := os.read(self._leader, 4_096):
                    self.shown += chunk.decode()
                else:
                    break
        except OSError:
            pass
        code = self.process.wait(SECONDS)
        assert "Traceback" not in self.shown, self.shown
        return code


def environ_of(database: str) -> dict[str, str]:
    """Return the environment of a program with this database."""
    settings = {"CHAT_ENVIRONMENT": "testing", "CHAT_ACCOUNTS__HASH_MEMORY_KIB": "8"}
    return {**ENVIRON, **settings, "CHAT_DATABASE__URL": database}


@contextmanager
def terminal(*arguments: str, columns: int = 80, database: str = "") -> Iterator[Screen]:
    """Start the program in a terminal of its own."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def lead() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environ_of(database),
        preexec_fn=lead,
    )
    os.close(follower)
    try:
        yield Screen(process, leader)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(leader)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'chat.db'}"


def test_a_password_is_asked_for_twice_and_not_shown(url: str) -> None:
    with terminal("users", "add", "ada", database=url) as screen:
        screen.read_until("Password: ")
        screen.type(b"correct horse\n")
        screen.read_until("Repeat for confirmation: ")
        screen.type(b"correct horse\n")
        assert screen.end() == 0
        assert "ada is added, with the roles member" in screen.shown
        assert "horse" not in screen.shown


@pytest.mark.parametrize("keys", [b"n\n", b"\n", INTERRUPT, END])
def test_what_cannot_be_undone_is_asked_first(url: str, keys: bytes) -> None:
    with terminal("archive", "erase", "--user", "ada", database=url) as screen:
        screen.read_until("Erase all messages of 'ada' for good? [y/N]: ")
        screen.type(keys)
        assert screen.end(again=keys) == 1
        assert "Aborted!" in screen.shown
        assert "erased" not in screen.shown


def test_ctrl_c_ends_a_wait_without_a_traceback() -> None:
    away = ("--url", "http://127.0.0.1:1", "--token", "t", "--wait", "9m")
    with terminal("tail", "room:a", *away) as screen:
        screen.read_until("waiting: ")
        screen.type(INTERRUPT)
        assert screen.end() == 130


@pytest.mark.parametrize("columns", [20, 80, 300])
def test_lines_fit_any_width_and_have_no_colours(columns: int) -> None:
    with terminal("config", "show", columns=columns) as screen:
        assert screen.end() == 0
        assert "\x1b" not in screen.shown
        assert 'server.bind = "127.0.0.1:0"  # ' in screen.shown  # not wrapped by the program
    with terminal("users", "--help", columns=columns) as screen:
        assert screen.end() == 0
        assert "\x1b" not in screen.shown


def test_without_a_terminal_nothing_is_asked(url: str) -> None:
    for arguments, code, told in (
        (("users", "add", "ada"), 2, "there is no terminal to ask in; give --password-stdin"),
        (("archive", "erase", "--user", "ada"), 2, "there is no terminal to ask in; give --yes"),
        (("token", "inspect"), 0, ""),
    ):
        done = subprocess.run(
            [*COMMAND, *arguments],
            env=environ_of(url),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert "Traceback" not in done.stderr
        if told:
            assert (done.returncode, done.stdout) == (code, "")
            assert told in done.stderr


def test_a_reader_that_wants_no_more_is_no_failure() -> None:
    """As in `config show | head -1`."""
    environ = {**ENVIRON, "CHAT_ENVIRONMENT": "testing"}
    command = (*COMMAND, "config", "show")
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, complaint = process.communicate(timeout=SECONDS)
    assert (process.returncode, complaint) == (0, b"")
