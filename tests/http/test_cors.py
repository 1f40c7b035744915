"""Pages of other origins may use the API when they are named, and no others."""

import pytest

from tests.rig.server import mint

from .client import MESSAGES, client

ALLOWED = "https://chat.example.org"
OTHER = "https://evil.example"


async def test_without_allowed_origins_nothing_is_said_about_them() -> None:
    async with client() as http:
        response = await http.ask("GET", "/health", headers={"Origin": ALLOWED})
        assert response.status_code == 200
        assert not [name for name in response.headers if name[0].startswith("Access-Control")]


async def test_an_allowed_origin_is_named_and_others_are_not() -> None:
    async with client(http__allowed_origins=[ALLOWED]) as http:
        for path in ("/health", MESSAGES, "/nothing"):
            response = await http.ask("GET", path, headers={"Origin": ALLOWED})
            assert response.headers["Access-Control-Allow-Origin"] == ALLOWED
            exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
            assert {"X-Request-ID", "Retry-After", "RateLimit", "RateLimit-Policy"} <= set(exposed)
            assert "Access-Control-Allow-Credentials" not in response.headers
            assert "Origin" in response.headers["Vary"]
            for origin in (OTHER, "null", f"{ALLOWED}.evil.example", f"{ALLOWED}:444"):
                response = await http.ask("GET", path, headers={"Origin": origin})
                assert "Access-Control-Allow-Origin" not in response.headers
                assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_preflight_of_an_allowed_origin(method: str) -> None:
    async with client(http__allowed_origins=[ALLOWED]) as http:
        response = await http.ask(
            "OPTIONS",
            MESSAGES,
            headers={
                "Origin": ALLOWED,
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": (
                    "authorization, content-type, traceparent, x-request-id"
                ),
            },
        )
        assert response.status_code == 200
        assert response.headers["Access-Control-Allow-Origin"] == ALLOWED
        assert method in response.headers["Access-Control-Allow-Methods"]
        allowed = response.headers["Access-Control-Allow-Headers"].lower()
        for name in ("authorization", "content-type", "x-request-id", "traceparent"):
            assert name in allowed


@pytest.mark.parametrize(
    ("origin", "method"), [(OTHER, "POST"), (ALLOWED, "PUT"), ("null", "POST")]
)
async def test_a_preflight_of_another_origin_or_for_another_method(
    origin: str, method: str
) -> None:
    async with client(http__allowed_origins=[ALLOWED]) as http:
        response = await http.ask(
            "OPTIONS",
            MESSAGES,
            headers={"Origin": origin, "Access-Control-Request-Method": method},
        )
        methods = response.headers.get("Access-Control-Allow-Methods", "")
        assert method not in methods
        if origin != ALLOWED:
            assert "Access-Control-Allow-Origin" not in response.headers


async def test_a_browser_can_read_an_answer_and_an_error() -> None:
    async with client(http__allowed_origins=[ALLOWED, "http://localhost:3000"]) as http:
        for token, status in ((mint("ada"), 201), ("nonsense", 401)):
            response = await http.ask(
                "POST",
                MESSAGES,
                token=token,
                json={"data": 1},
                headers={"Origin": "http://localhost:3000"},
            )
            assert response.status_code == status
            assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"


async def test_an_asterisk_allows_all_without_credentials() -> None:
    async with client(http__allowed_origins=["*"]) as http:
        response = await http.ask("GET", "/health", headers={"Origin": OTHER})
        assert response.headers["Access-Control-Allow-Origin"] in ("*", OTHER)
        assert "Access-Control-Allow-Credentials" not in response.headers


async def test_pages_below_a_domain_and_of_an_app() -> None:
    allowed = ["https://*.example.org", "capacitor://localhost"]
    async with client(http__allowed_origins=allowed) as http:
        for origin in ("https://a.example.org", "capacitor://localhost"):
            response = await http.ask("GET", "/health", headers={"Origin": origin})
            assert response.headers["Access-Control-Allow-Origin"] == origin
        for origin in ("https://example.org", "https://a.example.org.evil.example", "null"):
            response = await http.ask("GET", "/health", headers={"Origin": origin})
            assert "Access-Control-Allow-Origin" not in response.headers
