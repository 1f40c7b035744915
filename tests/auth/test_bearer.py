"""Which token the Authorization headers of a request hold."""

import pytest

from chat_server.auth.bearer import bearer_token
from chat_server.protocol.errors import Unauthorized

BASIC = "Basic dXNlcjpwYXNz"


@pytest.mark.parametrize(
    "header", ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c ", " Bearer a.b.c"]
)
def test_reads_bearer_tokens(header: str) -> None:
    assert bearer_token([header]) == "a.b.c"
    assert bearer_token([BASIC, header]) == "a.b.c"


@pytest.mark.parametrize(
    "headers",
    [
        *([], [BASIC], ["Bearer"], ["Bearer "], ["a.b.c"], ["Bearera.b.c"], [""]),
        *(["Bearer a.b.c", "Bearer d.e.f"], ["Bearer a.b.c", "Bearer"], ["Bearer a.b.c", "x"]),
    ],
)
def test_refuses_other_authorization(headers: list[str]) -> None:
    with pytest.raises(Unauthorized) as caught:
        bearer_token(headers)
    assert "dXNlcjpwYXNz" not in caught.value.message
