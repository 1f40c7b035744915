"""Files that settings come from, and what stands in their place by mistake."""

import os
from pathlib import Path

import pytest

from chat_server.settings import SettingsError, load_settings


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ=environ)
    return str(caught.value)


def test_no_file_of_settings_is_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    variable = "CHAT_AUTH__SECRET__FILE"
    for path, rule in ((pipe, "it is no regular file"), (tmp_path, "Is a directory")):
        assert refusal({variable: str(path)}) == (
            f"{variable}: the file that it names cannot be read: {rule}"
        )
        with pytest.raises(SettingsError) as caught:
            load_settings(config_file=path, environ={})
        assert str(caught.value) == f"{path}: cannot be read: {rule}"
    with pytest.raises(SettingsError, match="/dev/zero: cannot be read: it is no regular file"):
        load_settings(config_file=Path("/dev/zero"), environ={})


def test_a_namespace_with_a_wrong_name_says_where_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "chat.toml"
    file.write_text('[namespaces."a b"]\nhistory_size = 1\n')
    with pytest.raises(SettingsError) as caught:
        load_settings(config_file=file, environ={})
    assert str(caught.value).endswith(f"first segment (from {file})")
