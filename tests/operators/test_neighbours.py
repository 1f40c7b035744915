"""Which silent workers have ended is seen from the same machine only."""

import os
import subprocess
import sys

from chat_server.operators.neighbours import has_ended

OWN = f"my-host-{os.getpid()}-0a0a"


def test_a_worker_has_ended_if_its_process_is_not_there() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert has_ended(f"my-host-{ended.pid}-ffff", OWN)
    assert not has_ended(f"my-host-{os.getppid()}-ffff", OWN), "it may be frozen"
    assert not has_ended(f"other-host-{ended.pid}-ffff", OWN), "it cannot be seen from here"


def test_who_had_our_number_before_us_has_ended() -> None:
    assert has_ended(f"my-host-{os.getpid()}-ffff", OWN)
    assert not has_ended(OWN, OWN)


def test_names_of_another_form_are_left_alone() -> None:
    for name in ("", "node", "my-host-x-ffff", f"my-host-{10**30}-ffff"):
        assert not has_ended(name, OWN)
