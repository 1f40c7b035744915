"""A server has forgotten everything: the browser client changes no other message than is meant."""

import json
import subprocess
from pathlib import Path

from ..rig.node import copy_client, environment, node
from ..rig.server import ServerProcess, mint

HERE = Path(__file__).parent


def test_a_change_reaches_no_other_message(tmp_path: Path) -> None:
    copy_client(tmp_path, HERE / "epochs.mjs", HERE / "faulty_socket.mjs")
    with (
        ServerProcess() as server,
        subprocess.Popen(
            ["timeout", "100", node(), "epochs.mjs", server.ws_url, mint("bot")],
            cwd=tmp_path,
            env=environment(),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as script,
    ):
        assert script.stdin is not None
        assert script.stdout is not None
        for step in ("stop", "start"):
            assert script.stdout.readline() == f"{step}\n", script.communicate()[1]
            getattr(server, step)()
            script.stdin.write("done\n")
            script.stdin.flush()
        out, err = script.communicate(timeout=240)
        assert script.returncode == 0, err
    said = json.loads(out)
    place, answers = said["place"], said["answers"]
    assert place["seq"] == said["seq"]
    assert (answers.pop("present"), answers.pop("bare")) == ("stored", "stored")
    for command, answer in answers.items():
        assert answer.startswith("not_found: epoch: the topic has begun anew since"), command
    (only,) = said["messages"]
    assert (only["data"], "version" in only) == ({"text": "another"}, False)
