"""Judges the server's own warnings at `/health`: store, clock and certificate."""

import asyncio
from collections.abc import AsyncIterator
from http.client import HTTPException
from urllib.error import HTTPError

import msgspec
from msgspec import Struct

from ...client.api import opener_for, reason_of
from ...client.credentials import in_thread
from ...client.url import api_url
from .findings import Finding, Word

MOST_BYTES = 1_048_576

TODO: tuple[tuple[str, Word, str], ...] = (
    ("this Redis is a read-only replica", "error", "let redis.url lead to the master"),
    ("Redis has too few replicas", "error", "start them, or lower min-replicas-to-write"),
    ("the store is ", "error", "see docs/stores.md#when-the-store-takes-no-writes"),
    (" does not come back from ", "error", "see docs/incidents.md#a-worker-is-deaf"),
    (" does not answer", "error", "it is stopped or busy: look at its log and its CPU time"),
    ("no keys of auth.jwks_url ", "error", "does the issuer answer there to this server?"),
    ("the clock is ", "warning", "let NTP set the clocks of the server and of Redis"),
    ("the certificate ended ", "error", "put a new one into its file, and send SIGHUP"),
    ("the certificate ends ", "warning", "put a new one into its file, and send SIGHUP"),
)
"""Part of a warning's text, status and advice; the first matching row holds."""


class _Worker(Struct):
    worker: int


class _Health(Struct):
    status: str
    version: str
    warnings: list[str]
    workers: list[_Worker]


async def judge_health(url: str, seconds: float) -> AsyncIterator[Finding]:
    """Yield findings from the server's `/health`.

    Args:
        url: the address of the server's WebSocket.
        seconds: timeout of the answer, in seconds.
    """
    address = api_url(url, "/health")
    unseen = "what the server warns of cannot be seen"
    try:
        async with asyncio.timeout(seconds):
            status, body = await in_thread(lambda: _get(address, seconds), "doctor health")
    except (OSError, HTTPException, ValueError) as error:
        yield Finding("health", "warning", f"{unseen}: {reason_of(url, error)}")
        return
    try:
        health = msgspec.json.decode(body, type=_Health)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        todo = "a proxy may keep it from the public: ask the server by its own address"
        yield Finding("health", "warning", f"{unseen}, {address} answers {status}: {todo}")
        return
    for line in health.warnings:
        yield _finding(line)
    if not health.warnings:
        count = len(health.workers)
        workers = "1 worker" if count == 1 else f"{count} workers"
        text = f"version {health.version}, {workers}, {health.status}"
        yield Finding("health", "ok" if health.status == "ok" else "warning", text)


def _get(address: str, seconds: float) -> tuple[int, bytes]:
    try:
        with opener_for(address).open(address, timeout=seconds) as response:
            return int(response.status), response.read(MOST_BYTES)
    except HTTPError as error:
        with error:  # 503 says why
            return error.code, error.read(MOST_BYTES)


def _finding(line: str) -> Finding:
    for part, word, todo in TODO:
        if part in line:
            return Finding("health", word, f"{line}: {todo}")
    return Finding("health", "warning", line)
