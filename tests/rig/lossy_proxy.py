"""A proxy that loses batches of publications."""

import random

from .proxy import Change, Proxy


class LossyProxy(Proxy):
    """Loses HTTP requests or their answers, and leaves WebSockets alone.

    Attributes:
        before: the share of requests that do not reach the server.
        after: the share of answers that do not reach the client.
        posts: number of received batches.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.before = self.after = 0.0
        self.posts = 0
        self._rng = random.Random(7)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _changes(self) -> tuple[Change, Change]:
        is_batch = False

        def up(data: bytes) -> bytes:
            nonlocal is_batch
            if data.startswith(b"POST /api/messages "):
                is_batch = True
                self.posts += 1
                if self._rng.random() < self.before:
                    raise ConnectionResetError
            return data

        lost = self._rng.random()

        def down(data: bytes) -> bytes:
            if is_batch and lost < self.after:
                raise ConnectionResetError
            return data

        return up, down
