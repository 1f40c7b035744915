"""h11's parser, lenient about what comes around requests."""

from typing import Any

import h11


class LenientConnection(h11.Connection):
    """Takes requests from clients that end a body with a line break, or send a word too many.

    RFC 9112, section 2.2, asks for the first. h11 has an error for both, which would overtake the
    answer of a request that has been carried out: its sender would repeat it.
    """

    def receive_data(self, data: bytes) -> None:
        """Take bytes, but none behind a request that was to be the last."""
        if self.their_state is not h11.MUST_CLOSE:
            super().receive_data(data)

    def next_event(self) -> Any:
        """Return what came next; nothing does behind a request that was to be the last."""
        if self.their_state is h11.MUST_CLOSE:
            return h11.NEED_DATA
        if self.their_state is h11.IDLE:
            self._skip_empty_lines()
        return super().next_event()

    def _skip_empty_lines(self) -> None:
        buffered = self.trailing_data[0]
        if empty := len(buffered) - len(buffered.lstrip(b"\r\n")):
            self._receive_buffer.maybe_extract_at_most(empty)
