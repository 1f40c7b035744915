"""The command line: `python -m loadtest SCENARIO`."""

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click
import msgspec

from chat_server.settings import SettingsError

from . import options as kinds
from .crowd import raise_file_limit
from .plot import draw_latency
from .processes import end_what_was_started
from .report import Report, table
from .scenarios.connect import connect
from .scenarios.fanout import fanout
from .scenarios.idle import idle
from .scenarios.publish import publish
from .scenarios.rooms import rooms
from .scenarios.slow import slow
from .server import Target, started, started_noting_pauses
from .stage import Stage, perform
from .terminal import Line
from .wire import InputError, LoadError

OWN_KINDS: Mapping[str, click.ParamType[Any]] = {
    "payload_bytes": kinds.Payload,
    "stalled_share": kinds.Number(0, 0.9),
}
"""Parameters of scenarios with a restricted range."""

STUDIES: Mapping[str, str] = {
    "archive": "cli_archive",
    "bench": "cli_studies",
    "churn": "cli_churn",
    "compare": "cli_studies",
    "crowded": "cli_crowded",
    "flood": "cli_flood",
    "front": "cli_front",
    "greedy": "cli_greedy",
    "login": "cli_login",
    "operators": "cli_operators",
    "page": "cli_studies",
    "presence": "cli_presence",
    "verbs": "cli_verbs",
    "webhooks": "cli_webhooks",
}
"""The modules of commands that are not scenarios, imported on demand: together the modules import
most of the server, Redis and the database.
"""

SERVER_OPTIONS = [
    click.Option(
        ["--url"],
        type=kinds.Address(),
        help="A running server's ws://127.0.0.1:PORT/ws; without it one is started.",
    ),
    click.Option(
        ["--server-pid"], type=int, help="The running server's process, to measure its costs."
    ),
    click.Option(
        ["--workers"],
        type=kinds.Count,
        default=1,
        show_default=True,
        help="Of a server started here; several have a Redis.",
    ),
    click.Option(["--redis"], is_flag=True, help="Give a server started here a Redis as well."),
    click.Option(
        ["--pauses"], is_flag=True, help="Time the garbage collector of a server started here."
    ),
    click.Option(
        ["--json"],
        type=kinds.Output(allow_dash=True),
        help="Write the report into this file; - prints it.",
    ),
    click.Option(
        ["--plot"], type=kinds.Picture(), help="Draw the latency into this PNG, SVG or PDF."
    ),
]


class _Group(click.Group):
    """Reports an error of a command in one line, and shows the whole first sentence of each
    command.
    """

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except InputError as error:
            raise click.UsageError(str(error)) from None
        except (LoadError, SettingsError) as error:
            raise click.ClickException(str(error)) from None

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*self.commands, *STUDIES})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in STUDIES and name not in self.commands:
            module = import_module(f".{STUDIES[name]}", __package__)
            self.add_command(getattr(module, f"{name}_command"))
        return super().get_command(context, name)

    def add_command(self, command: click.Command, name: str | None = None) -> None:
        command.short_help = (command.help or "").partition("\n")[0]
        super().add_command(command, name)


@click.group(
    cls=_Group,
    epilog=kinds.examples("fanout", "idle --url ws://127.0.0.1:8000/ws --server-pid 4711", "bench"),
)
def main() -> None:
    """Measure a chat server on this machine."""
    end_what_was_started()
    raise_file_limit()


def _command(
    scenario: Callable[..., Stage], *examples: str, environ: Mapping[str, str] | None = None
) -> click.Command:
    """Return the command of a scenario: parameters become options, with the docstring as their
    help.

    Args:
        scenario: the scenario; the docstring of its module has the summary.
        examples: example options.
        environ: settings of a server started for the scenario.
    """
    name = scenario.__name__
    _, _, summary = (inspect.getdoc(inspect.getmodule(scenario)) or "").partition(": ")
    texts = dict(re.findall(r"^ +(\w+): (.+)$", inspect.getdoc(scenario) or "", re.MULTILINE))
    options = [
        click.Option(
            [f"--{parameter.name.replace('_', '-')}"],
            type=_kind(parameter),
            default=parameter.default,
            show_default=True,
            help=_sentence(texts[parameter.name]),
        )
        for parameter in list(inspect.signature(scenario).parameters.values())[1:]
    ]
    return click.Command(
        name,
        callback=lambda **chosen: _run(scenario, chosen, environ or {}),
        params=[*options, *SERVER_OPTIONS],
        help=_sentence(summary),
        epilog=kinds.examples(*(f"{name} {example}" for example in examples)),
    )


def _kind(parameter: inspect.Parameter) -> click.ParamType[Any]:
    number = kinds.Positive if parameter.default else kinds.NotNegative
    whole = isinstance(parameter.default, int)
    return OWN_KINDS.get(parameter.name, kinds.Count if whole else number)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _run(
    scenario: Callable[..., Stage], options: dict[str, Any], environ: Mapping[str, str]
) -> None:
    """Run a scenario; exit with 1 unless every message arrived once and in order."""
    json, plot = options.pop("json"), options.pop("plot")
    names = ("url", "server_pid", "workers", "redis", "pauses")
    server = {name: options.pop(name) for name in names}
    with _target(**server, environ=environ) as target, Line() as line:
        report = perform(scenario(target, **options), target, line.tell)
    _publish_report(report, json, plot)
    sys.exit(not report.passed)


def _publish_report(report: Report, json: str | None, plot: str | None) -> None:
    if json is not None:
        with click.open_file(json, "w") as file:
            file.write(msgspec.json.format(msgspec.json.encode(report)).decode() + "\n")
    if json != "-":
        click.echo(table(report))
    if plot is not None:
        draw_latency([report], plot)


@contextmanager
def _target(
    url: tuple[str, int] | None,
    server_pid: int | None,
    workers: int,
    redis: bool,
    pauses: bool,
    environ: Mapping[str, str],
) -> Iterator[Target]:
    """Yield the running server at `url`, or a server started for this run.

    The environment's secret signs the tokens, as for the server.
    """
    if url is not None:
        if redis or pauses or workers > 1:
            raise InputError("--workers, --redis and --pauses are for a server started here")
        host, port = url
        yield Target("chat_server", "chat", port, host=host, pid=server_pid, started_elsewhere=True)
        return
    if server_pid is not None:
        raise InputError("--server-pid is for a running server, which --url names")
    start = started_noting_pauses if pauses else started
    with start(workers=workers, redis=redis or workers > 1, environ=environ) as target:
        yield target


for _each in (
    _command(fanout, "--subscribers 5000 --rate 10", "--plot latency.svg --json fanout.json"),
    _command(rooms, "--rooms 200 --members 20 --workers 2"),
    _command(connect, "--connections 10000", "--rate 300 --plot connecting.svg"),
    _command(idle, "--connections 15000 --pauses", "--connections 2000 --hold-seconds 60"),
    _command(
        slow,
        "--stalled-share 0.3",
        environ={"CHAT_LIMITS__SLOW_TIMEOUT_SECONDS": "3"},
    ),
    _command(publish, "--redis", "--rate 2000 --seconds 20"),
):
    main.add_command(_each)
