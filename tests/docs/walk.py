"""Does what a document's shell blocks say, in their order, and compares what comes out.

A `Walk` runs each block marked `sh` and compares its output with the `text` block behind it. There
… stands for anything, and documented addresses are replaced by those of the test's own servers.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from ..rig.ports import free_port
from ..rig.redis_server import RedisServer
from ..rig.server import ServerProcess
from .markdown import ROOT, blocks

DOCUMENTED_ADDRESS = "127.0.0.1:8000"
BIND_VARIABLE = "CHAT_SERVER__BIND="
DOCUMENTED_REDIS = "redis://127.0.0.1:6379/0"
SECONDS = 90.0
"""How long a command may take: the machine may be busy."""


def matches(documented: str, actual: str) -> bool:
    """Return whether `actual` is what was documented; there … stands for anything."""
    pattern = re.escape(documented.strip()).replace("…", ".*")
    pattern = re.sub(r"\d\d:\d\d:\d\d", r"\\d\\d:\\d\\d:\\d\\d", pattern)
    return re.fullmatch(pattern, actual.strip(), re.DOTALL) is not None


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for `condition` to hold."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)


def topic_count(server: ServerProcess) -> int:
    """Return how many topics have subscribers."""
    with urllib.request.urlopen(f"{server.url}/health", timeout=SECONDS) as response:
        return int(json.load(response)["topics"])


class Walk:
    """Follows one document.

    Commands that start a server get a port of their own, and are interrupted once they have said
    what is documented. `tail` runs until it has printed what the block after the next one shows.

    Args:
        server: what the other commands talk to, at the documented address.
        folder: for what they leave behind.
    """

    def __init__(self, server: ServerProcess, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._tail: subprocess.Popen[str] | None = None
        self.environ = environment(server, folder)
        self.followed: list[str] = []

    def follow(self, text: str) -> None:
        """Run every `sh` block of a document; the `text` after it, if any, is its output."""
        found = blocks(text)
        for block, following in pairwise([*found, None]):
            if block is None or block.kind != "sh":
                continue
            documented = ""
            if following and following.kind == "text" and following.heading == block.heading:
                documented = following.text
            for pattern, how in HANDLERS:
                if re.match(pattern, block.text):
                    how(self, block.text, documented)
                    self.followed.append(block.text.strip())
                    break
        assert self._tail is None, "a tail was started, but nothing shows what it prints"

    def run(self, command: str, documented: str) -> None:
        """Run a command that ends by itself, and keep the variables that it exports."""
        variables = self._folder / "variables"
        script = f'{self._adapt(command)}\nstatus=$?\nenv -0 >"{variables}"\nexit $status'
        done = subprocess.run(
            ["bash", "-c", script],
            env=self.environ,
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        pairs = variables.read_text().rstrip("\0").split("\0")
        self.environ = dict(pair.split("=", 1) for pair in pairs)
        output = done.stdout
        if self._tail is not None:
            assert (done.returncode, output) == (0, ""), output
            output = self._end_tail()
        elif not documented:
            assert done.returncode == 0, output
        self._compare(command, documented, output)

    def start_tail(self, command: str, documented: str) -> None:
        """Start `tail`, and leave it running for the next command."""
        self._tail = self._start(self._adapt(command))
        wait_until(lambda: topic_count(self._server) > 0, "tail has subscribed")

    def serve(self, command: str, documented: str) -> None:
        """Run a server until it has said what is documented and answers, then interrupt it."""
        port = free_port()
        address = DOCUMENTED_ADDRESS
        program, *arguments = shlex.split(command)
        if program.startswith(BIND_VARIABLE):
            address = program.removeprefix(BIND_VARIABLE)
            program, *arguments = "env", f"{BIND_VARIABLE}127.0.0.1:{port}", *arguments
        elif "--bind" in arguments:
            arguments[arguments.index("--bind") + 1] = f"127.0.0.1:{port}"
        else:
            arguments += ["--bind", f"127.0.0.1:{port}"]
        with self._redis(arguments) as arguments:
            process = self._start(shlex.join([program, *arguments]))
            try:
                wait_until(lambda: _is_healthy(port, process), f"{command} answers")
                output = "".join(_lines(process, len(documented.splitlines())))
                documented = documented.replace(address, f"127.0.0.1:{port}")
                assert not documented or matches(documented, output), output
            finally:
                code = _interrupt(process)
            assert code == 0, f"{command} ended with {code}"

    def make_run(self, command: str, documented: str) -> None:
        """Do what `make run` does once everything is installed."""
        self._check_target("run", "python -m chat_server serve")
        self.serve(command.replace("make run", "chat-server serve"), documented)

    def make(self, command: str, documented: str) -> None:
        """See that the targets are there: running them would run this test."""
        for line in command.splitlines():
            self._check_target(line.removeprefix("make "), "python -m pytest")

    def _check_target(self, target: str, contains: str) -> None:
        plan = subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert contains in plan.stdout

    @contextmanager
    def _redis(self, arguments: list[str]) -> Iterator[list[str]]:
        if DOCUMENTED_REDIS not in arguments:
            yield arguments
            return
        redis = RedisServer(self._folder)
        redis.start()
        try:
            yield [redis.url if word == DOCUMENTED_REDIS else word for word in arguments]
        finally:
            redis.stop()

    def _start(self, command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            env=self.environ,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _end_tail(self) -> str:
        tail, self._tail = self._tail, None
        assert tail is not None
        try:
            return "".join(_lines(tail, 1))
        finally:
            assert _interrupt(tail) == 128 + signal.SIGINT

    def _adapt(self, text: str) -> str:
        return text.replace(DOCUMENTED_ADDRESS, f"127.0.0.1:{self._server.port}")

    def _compare(self, command: str, documented: str, output: str) -> None:
        if documented:
            assert matches(self._adapt(documented), output), f"{command}\nprinted\n{output}"


HANDLERS: tuple[tuple[str, Callable[[Walk, str, str], None]], ...] = (
    (rf"({BIND_VARIABLE}\S+ )?make run\n", Walk.make_run),
    (r"make (test|check)\n", Walk.make),
    (r"chat-server serve |hypercorn ", Walk.serve),
    (r"chat-server tail ", Walk.start_tail),
    (r"(\w+=\S+ )?chat-server |export |curl |eval ", Walk.run),
    (r".", lambda walk, command, documented: _unknown(command)),
)


def environment(server: ServerProcess, folder: Path) -> dict[str, str]:
    """Return the variables of a shell in which the project is installed, for the user alice."""
    programs = folder / "bin"
    programs.mkdir()
    for name, module in (("chat-server", "chat_server"), ("hypercorn", "hypercorn")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {module} "$@"\n')
        program.chmod(0o755)
    # Without a terminal curl would show its progress.
    (folder / ".curlrc").write_text("silent\nshow-error\n")
    inherited = {name: v for name, v in os.environ.items() if not name.startswith("CHAT")}
    return inherited | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "CURL_HOME": str(folder),
        "LOGNAME": "alice",
        "CHATCLIENT_URL": server.url,
    }


def _unknown(command: str) -> None:
    raise AssertionError(f"no test knows how to run this: {command}")


def _is_healthy(port: int, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, f"ended with {process.returncode}"
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=SECONDS):
            return True
    except OSError:
        return False


def _lines(process: subprocess.Popen[str], count: int) -> Iterator[str]:
    assert process.stdout is not None
    return (process.stdout.readline() for _ in range(count))


def _interrupt(process: subprocess.Popen[str]) -> int:
    try:
        process.send_signal(signal.SIGINT)
        return process.wait(SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
