"""`chat-server config`: checks, shows and explains settings and their sources."""

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..settings import Settings, SettingsError, advice, load_settings, reference, variable_of
from .options import always_json_option, config_option, json_option, read_settings, setting_flags
from .terminal import Misuse, escape_controls, print_error

WRONG = 2


@click.group()
def config() -> None:
    """Check, show and explain the settings."""


@config.command()
@setting_flags
@config_option
@json_option
def check(flags: Mapping[str, str | None], config: Path | None, as_json: bool) -> None:
    """Look for mistakes: in the settings, and in the files that they name.

    Every mistake has a line; with one or more the exit code is 2. Nothing is connected to: that is
    what `chat-server doctor` does.
    """
    notes: list[str] = []
    try:
        settings = load_settings(config_file=config, flags=flags, notes=notes)
    except SettingsError as error:
        mistakes = list(error.lines)
    else:
        # Imported here, because loading takes as long as the server's start.
        from ..server.checks import mistakes_at_start

        mistakes = list(mistakes_at_start(settings))
        notes += advice(settings)
    if as_json:
        click.echo(json.dumps({"mistakes": mistakes, "advice": notes}))
    else:
        for line in (*notes, *mistakes):
            print_error(line)
        if not mistakes:
            click.echo(f"the settings are right; the environment is {settings.environment}")
    if mistakes:
        raise click.exceptions.Exit(WRONG)


@config.command()
@click.option("--changed", is_flag=True, help="Leave out what has its default.")
@setting_flags
@config_option
@json_option
def show(
    flags: Mapping[str, str | None], config: Path | None, as_json: bool, changed: bool
) -> None:
    """Print what holds, in the form of a file of settings, and where it comes from.

    Secrets are masked.
    """
    sources: dict[str, str] = {}
    settings = read_settings(config, flags, [], sources)
    rows = [
        row for row in _rows(settings, sources) if not (changed and row[2] == reference.DEFAULT)
    ]
    if as_json:
        shown = {key: {"value": value, "source": source} for key, value, source in rows}
        click.echo(json.dumps(shown, indent=2))
        return
    for key, value, source in rows:
        click.echo(f"{_toml_key(key)} = {_toml(value)}  # {escape_controls(source)}")


@config.command()
@setting_flags
@config_option
@json_option
def env(flags: Mapping[str, str | None], config: Path | None, as_json: bool) -> None:
    """Print the environment variable of each setting, with the value that holds.

    Those with their default, and secrets, are commented out.
    """
    sources: dict[str, str] = {}
    settings = read_settings(config, flags, [], sources)
    rows = list(_rows(settings, sources))
    if as_json:
        click.echo(json.dumps({variable_of(key): value for key, value, _ in rows}, indent=2))
        return
    secret = {key for key, value in reference.values(settings) if reference.hides(key, value)}
    for key, value, source in rows:
        off = "# " if source == reference.DEFAULT or key in secret else ""
        text = value if isinstance(value, str) else _toml(value)
        click.echo(f"{off}{variable_of(key)}={escape_controls(text)}")


@config.command()
@click.argument("key", required=False)
@json_option
def doc(key: str | None, as_json: bool) -> None:
    """Explain KEY, or a group of keys such as `limits`; without it, print default.toml."""
    if key is None and not as_json:
        click.echo(reference.default_toml(), nl=False)
        return
    comments = reference.comments()
    meant = key and reference.documented_key(key)
    rows = [
        {"key": name, "variable": variable_of(name), "default": value, "doc": comments[name]}
        for name, value in reference.defaults()
        if meant is None or name == meant or name.startswith(f"{meant}.")
    ]
    if not rows:
        close = difflib.get_close_matches(key or "", comments, n=1)
        raise Misuse(f"{key}: unknown key{f'; did you mean {close[0]}?' if close else ''}")
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    click.echo("\n\n".join(_explained(row) for row in rows))


@config.command()
@always_json_option
def schema() -> None:
    """Print a JSON Schema of the settings, for editors that check a TOML file."""
    click.echo(json.dumps(reference.json_schema(), indent=2))


def _rows(settings: Settings, sources: Mapping[str, str]) -> list[tuple[str, Any, str]]:
    """Return key, masked value and source of each setting."""
    return [
        (key, reference.shown(key, value), reference.source_of(key, sources))
        for key, value in reference.values(settings)
    ]


def _explained(row: Mapping[str, Any]) -> str:
    return f"{row['doc']}\n{row['key']} = {_toml(row['default'])}\n{row['variable']}"


def _toml_key(key: str) -> str:
    """Return a dotted key as TOML, with quotes around names that need quotes."""
    return ".".join(
        part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part)
        for part in key.split(".")
    )


def _toml(value: Any) -> str:
    # Strings, numbers, booleans and lists of strings are written in TOML as in JSON.
    return json.dumps(value)
