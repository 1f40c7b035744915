"""What holds the reading from a client, and how near its end a connection is."""

from chat_server.transports.lifecycle import ConnectionState, Hold, ReadGate


def test_a_client_is_read_from_when_no_reason_against_it_is_left() -> None:
    gate = ReadGate()
    gate.hold(Hold.COMMANDS)
    gate.hold(Hold.SLOW)
    gate.hold(Hold.SLOW)
    gate.release(Hold.SLOW)
    assert gate.holds == {Hold.COMMANDS}
    gate.release(Hold.SLOW)
    gate.release(Hold.COMMANDS)
    assert not gate.holds


def test_what_was_read_before_the_stop_is_still_handed_over() -> None:
    gate = ReadGate()
    handed_over = []
    for change in (gate.hold, gate.release):
        gate.hold(Hold.STOPPED)
        change(Hold.COMMANDS)
        handed_over.append(gate.hands_over)
        assert gate.holds
    assert handed_over == [False, True]


def test_gates_share_nothing() -> None:
    one, other = ReadGate(), ReadGate()
    one.hold(Hold.SLOW)
    assert not other.holds


def test_the_states_come_in_their_order() -> None:
    assert [*ConnectionState] == sorted(ConnectionState)
    assert (
        ConnectionState.OPEN
        < ConnectionState.REMOTE_CLOSED
        < ConnectionState.CLOSING
        < ConnectionState.GONE
    )
