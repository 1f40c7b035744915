"""Lines that wait for their reader: whoever writes them does not."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from chat_server import linewriter
from chat_server.linewriter import LineWriter

SECONDS = 120.0


@pytest.fixture
def pipe() -> Iterator[tuple[TextIO, TextIO]]:
    """The ends of a pipe: for the reader, for the writer."""
    ends = os.pipe()
    with os.fdopen(ends[0], "r") as reader, os.fdopen(ends[1], "w") as writer:
        yield reader, writer


def _dropped(count: int) -> str:
    return f"dropped {count}"


def test_who_writes_to_a_pipe_that_nobody_reads_goes_on(pipe: tuple[TextIO, TextIO]) -> None:
    reader, stream = pipe
    writer = LineWriter(stream, _dropped)
    lines = 2 * linewriter.MAX_WAITING_BYTES // 1000
    began = time.monotonic()
    for number in range(lines):
        writer.write(f"{number} ".ljust(999, "x"))
    assert not writer.flush(0.01)
    assert time.monotonic() - began < SECONDS
    # Whoever reads again is told how many are missing, where they are missing.
    seen = dropped = 0
    while seen + dropped < lines:
        line = reader.readline()
        if line.startswith("dropped "):
            dropped += int(line.split()[1])
        else:
            assert line == f"{seen + dropped} ".ljust(999, "x") + "\n"
            seen += 1
    assert dropped > lines / 3
    writer.write("again")
    assert reader.readline() == "again\n"
    assert writer.flush(SECONDS)
    writer.close()


def test_a_descriptor_that_somebody_made_non_blocking_still_takes_whole_lines(
    pipe: tuple[TextIO, TextIO],
) -> None:
    reader, stream = pipe
    os.set_blocking(stream.fileno(), False)
    writer = LineWriter(stream, _dropped)
    for number in range(20):
        writer.write(f"{number} ".ljust(50_000, "x"))
    for number in range(20):
        assert reader.readline() == f"{number} ".ljust(50_000, "x") + "\n"
    writer.close()


SEVERAL = """
import sys
from chat_server.linewriter import LineWriter
writer = LineWriter(sys.stderr, str)
for number in range(20):
    writer.write(f"{sys.argv[1]} {number} ".ljust(40_000, sys.argv[1]))
assert writer.flush(60)
"""


def test_lines_of_several_processes_are_not_mixed() -> None:
    """A pipe holds 64 KiB, so without a lock it takes the start of one line and then another's."""
    read, write = os.pipe()
    writers = [
        subprocess.Popen([sys.executable, "-c", SEVERAL, letter], stderr=write) for letter in "abc"
    ]
    os.close(write)
    with os.fdopen(read, "r") as reader:
        lines = reader.read().splitlines()
    for process in writers:
        assert process.wait(SECONDS) == 0
    expected = {f"{a} {n} ".ljust(40_000, a) for a in "abc" for n in range(20)}
    assert len(lines) == 60
    assert set(lines) == expected


def test_a_disk_that_was_full_is_told_of_when_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = os.pipe()
    calls: list[bytes] = []
    write = os.write

    def fails(descriptor: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) == 1:
            return write(descriptor, data[:3])  # the last room there was
        if len(calls) < 4:
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    with os.fdopen(ends[0], "r") as reader, os.fdopen(ends[1], "w") as stream:
        monkeypatch.setattr(os, "write", fails)
        writer = LineWriter(stream, _dropped)
        for line in ("first", "second", "third"):
            writer.write(line)
            assert writer.flush(SECONDS)
        writer.close()
        assert [reader.readline() for _ in range(3)] == ["fir\n", "dropped 2\n", "third\n"]


def test_there_may_be_no_stderr_at_all() -> None:
    writer = LineWriter(None, _dropped)
    writer.write("nowhere")
    assert writer.flush(0)


def test_a_stream_without_a_descriptor_is_written_to() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream, _dropped)
    writer.write("a\ud800b")
    assert writer.flush(SECONDS)
    writer.close()
    assert stream.getvalue() == "a\\ud800b\n"


FORK = """
import os, sys
from chat_server import logs
from chat_server.settings import LogSettings
import logging
logs.configure(LogSettings(format="json"))
logging.getLogger("a").warning("parent")
for handler in logging.getLogger().handlers:
    handler.flush()
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
logging.getLogger("a").warning("child")
"""


def test_a_forked_process_logs_as_well() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == ["parent", "child"]


CAPTURED = """
import sys, threading, warnings
from chat_server import logs
from chat_server.settings import LogSettings
logs.configure(LogSettings(format="json"))
logs.capture_stderr()
warnings.warn("old ways")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
class Bad:
    def __del__(self):
        raise ValueError("at its end")
Bad()
raise KeyError("token=abc")
"""


def test_what_python_writes_itself_is_in_the_form_of_the_log(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CAPTURED], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["WARNING", "CRITICAL", "ERROR", "CRITICAL"]
    assert "old ways" in lines[0]["message"]
    assert "ZeroDivisionError" in lines[1]["exception"]
    assert "ValueError: at its end" in lines[2]["exception"]
    assert "KeyError: 'token=********'" in lines[3]["exception"]
