"""What the browser client makes of events is what history says, whatever happened in between."""

import json
import os
import random
import subprocess
from pathlib import Path

from ..rig.node import copy_client, environment, node
from ..rig.server import ServerProcess, mint

HERE = Path(__file__).parent
SEED = os.environ.get("CHAT_CLIENT_FOLDING_SEED")
STEPS = 400

SERVER = {
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "300",
    "CHAT_LIMITS__MESSAGE_BURST": "300",
    "CHAT_LIMITS__MAX_REPLAY": "5000",
    "CHAT_GATEWAY__HEARTBEAT_SECONDS": "2",
}


def test_old_messages_and_events_are_the_messages_of_history(tmp_path: Path) -> None:
    program = node()
    copy_client(tmp_path, HERE / "folding.mjs", HERE / "faulty_socket.mjs")
    seed = int(SEED) if SEED else random.SystemRandom().randrange(2**32)
    with ServerProcess(environ=SERVER) as server:
        tokens = {user: mint(user) for user in ("ann", "bob", "eve")}
        options = {"url": server.ws_url, "tokens": tokens, "seed": seed, "steps": STEPS}
        done = subprocess.run(
            [program, "folding.mjs", json.dumps(options)],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=240,
        )
    assert done.returncode == 0, f"CHAT_CLIENT_FOLDING_SEED={seed}\n{done.stderr}"
    report = json.loads(done.stdout)
    print(f"CHAT_CLIENT_FOLDING_SEED={seed}", report)
    assert report["outcomes"].keys() >= {"publish", "edit", "append", "delete", "react"}
    assert report["grown"] > 0
