"""What makes no sense is said in one line before anything runs; help says what everything means."""

import socket
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from loadtest import options, stage
from loadtest.cli import main

from ..rig.ports import free_port


def _refused(*arguments: str, code: int = 2) -> str:
    """Return the line that says why a command did not run."""
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == code, done.output
    assert not done.stdout
    line = done.stderr.splitlines()[-1]
    assert line.startswith("Error: ")
    return line


@pytest.mark.parametrize(
    "url",
    [
        "ws://192.0.2.1/ws",
        "ws://example.org/ws",
        "wss://localhost/ws",
        "http://localhost",
        "ws://127.0.0.1:99999/ws",
        "ws://127.0.0.1:abc/ws",
        "ws://127.0.0.1:0/ws",
        "ws://[::1/ws",
        "ws://127.0.0.1:8000/ws?token=x",
        "ws://127.0.0.1:8000/ws#x",
        "ws://me@127.0.0.1:8000/ws",
    ],
)
def test_load_is_put_on_this_machine_only(url: str) -> None:
    assert "must be a ws:// address of this machine" in _refused("fanout", "--url", url)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ws://127.0.0.1:8000/ws", ("127.0.0.1", 8000)),
        ("ws://localhost/ws", ("localhost", 80)),
        ("ws://[::1]:81/ws", ("::1", 81)),
    ],
)
def test_addresses_of_this_machine(url: str, address: tuple[str, int]) -> None:
    assert options.Address().convert(url, None, None) == address


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("command", "option"),
    [("fanout", "--rate"), ("connect", "--rate"), ("bench", "--seconds")],
)
def test_numbers_are_finite(command: str, option: str, value: str) -> None:
    assert "Invalid value" in _refused(command, option, value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("fanout --server-pid 1", "--url"),
        ("fanout --url ws://127.0.0.1/ws --workers 2", "for a server started here"),
        ("fanout --url ws://127.0.0.1/ws --rate 0.1 --seconds 1", "nothing would be sent"),
        ("rooms --url ws://127.0.0.1/ws --rooms 1 --rate 0.1 --seconds 1", "nothing would"),
        (
            "slow --url ws://127.0.0.1/ws --subscribers 1 --stalled-share 0.9",
            "nobody would be left",
        ),
        ("compare --only nobody", "'nobody' is not one of 'floor', 'nats'"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: str, said: str) -> None:
    assert said in _refused(*arguments.split())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"machine": 1}', "\x00"])
def test_a_file_that_is_no_result_is_named(content: str, tmp_path: Path) -> None:
    result = tmp_path / "bench.json"
    result.write_text(content)
    page = tmp_path / "page.md"
    page.write_text("<!-- bench -->\n<!-- end of bench -->\n")
    assert str(result) in _refused("page", str(page), "--results", str(tmp_path))


@pytest.mark.parametrize("command", ["fanout", "bench", "compare"])
def test_a_run_whose_result_could_not_be_written_does_not_begin(
    command: str, tmp_path: Path
) -> None:
    assert "no folder" in _refused(command, "--json", str(tmp_path / "missing" / "x.json"))


@pytest.mark.parametrize("command", ["fanout", "compare"])
def test_a_run_whose_plot_could_not_be_drawn_does_not_begin(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "find_spec", lambda name: None)
    assert "pip install -e '.[peers]'" in _refused(command, "--plot", "x.svg")
    monkeypatch.setattr(options, "find_spec", lambda name: object())
    assert "must end with .png, .svg, .pdf" in _refused(command, "--plot", "x.txt")
    assert "no folder" in _refused(command, "--plot", str(tmp_path / "missing" / "x.svg"))


def test_a_server_that_is_not_there_is_named() -> None:
    port = free_port()
    arguments = ("--url", f"ws://127.0.0.1:{port}/ws", "--subscribers", "1")
    assert f"cannot reach 127.0.0.1:{port}" in _refused("fanout", *arguments, code=1)


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "PATIENCE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        arguments = ("--url", f"ws://127.0.0.1:{port}/ws", "--subscribers", "3")
        line = _refused("fanout", *arguments, code=1)
    assert line.endswith(
        f"127.0.0.1:{port} has not answered for 0.5 s; 0 of 4 connections are ready"
    )


CONTEXT = click.Context(main)


@pytest.mark.parametrize("name", main.list_commands(CONTEXT))
def test_every_option_says_what_it_means(name: str) -> None:
    command = main.get_command(CONTEXT, name)
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            # What click has where nobody named a default is none of these.
            is_number = isinstance(parameter.default, int | float | tuple)
            assert parameter.show_default or parameter.is_flag or not is_number, parameter.name
    text = CliRunner().invoke(main, [name, "--help"]).stdout
    assert f"python -m loadtest {name}" in text.partition("Examples:")[2]


def test_summaries_are_whole() -> None:
    text = CliRunner().invoke(main, ["--help"]).stdout
    assert "..." not in text.partition("Commands:")[2]
    for name in main.list_commands(CONTEXT):
        command = main.get_command(CONTEXT, name)
        assert command is not None
        assert command.short_help
        assert command.short_help in " ".join(text.split())
