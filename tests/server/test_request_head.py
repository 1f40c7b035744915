"""Heads that are found again without being read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.server.request_head import HeadPattern, Unusual, read_head

BEFORE = b"POST /api/messages HTTP/1.1\r\nHost: here\r\n"
BEHIND = b"Authorization: Bearer a.b.c\r\n\r\n"


def head_with(length: bytes, name: bytes = b"Content-Length: ") -> bytes:
    return BEFORE + name + length + b"\r\n" + BEHIND


@pytest.mark.parametrize("name", [b"Content-Length: ", b"content-length:", b"CONTENT-LENGTH: "])
def test_a_head_is_found_whatever_its_length(name: bytes) -> None:
    pattern = HeadPattern(head_with(b"12", name))
    for length in (b"0", b"12", b"13", b"007", b"123456789"):
        head = head_with(length, name)
        assert pattern.match(head + b'{"data":1}') == (int(length), len(head))


@pytest.mark.parametrize(
    "length",
    [b"", b"-1", b"+1", b" 1", b"1 ", b"1,1", b"0x1", b"1_0", b"1234567890", b"1\r", b"1\n"],
)
def test_a_length_that_is_none_is_left_to_the_parser(length: bytes) -> None:
    assert HeadPattern(head_with(b"12")).match(head_with(length)) is None


def test_another_head_is_not_found() -> None:
    pattern = HeadPattern(head_with(b"12"))
    head = head_with(b"12")
    for other in (
        head[:-2],
        head.replace(b"here", b"there"),
        head.replace(b"a.b.c", b"a.b.d"),
        head.replace(b"\r\n\r\n", b"\r\nX: y\r\n\r\n"),
        head.replace(b"Content", b"content"),
        head_with(b"12\r\nContent-Length: 13"),
        head_with(b"12\r\nTransfer-Encoding: chunked"),
    ):
        assert pattern.match(other + b"{}") is None


@pytest.mark.parametrize("head", [BEFORE + BEHIND, head_with(b"12", b"Content-Length:  ")])
def test_a_head_without_a_usual_length_is_no_pattern(head: bytes) -> None:
    """What stands behind it must not be taken for a length."""
    with pytest.raises(ValueError, match="length"):
        HeadPattern(head)


@given(st.data())
def test_whatever_is_found_is_read_the_same(data: st.DataObject) -> None:
    pattern = HeadPattern(head_with(b"12"))
    text = bytearray(head_with(data.draw(st.sampled_from([b"12", b"7", b"1234"]))))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(text)))
        piece = data.draw(
            st.sampled_from([b"\r\n", b"\n", b" ", b"1", b"Content-Length: 3\r\n", b""])
        )
        text[at : at + data.draw(st.integers(0, 2))] = piece
    found = pattern.match(bytes(text))
    if found is None:
        return
    length, end = found
    try:
        head = read_head(bytes(text))
    except Unusual:
        head = None
    assert head is not None
    assert head.end == end
    assert head.headers == {
        b"host": b"here",
        b"content-length": head.headers[b"content-length"],
        b"authorization": b"Bearer a.b.c",
    }
    assert int(head.headers[b"content-length"]) == length
