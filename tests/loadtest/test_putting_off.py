"""A signal that comes while a process is being started ends the load test, and that process too."""

import os
import signal

import pytest

from loadtest.processes import end_what_was_started, put_off_ending


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_ending_waits_for_the_end_of_the_block(number: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    reached = []
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        end_what_was_started()
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the block is what is tested
            with put_off_ending():
                os.kill(os.getpid(), number)
                reached.append("the end")
            reached.append("behind the block")
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert reached == ["the end"]
