"""Delivers stored events to HTTP endpoints: signed, ordered for each topic, at least once.

`signing` and `addresses` need no library, because the rules of the settings use them. The server
imports httpcore with the first webhook. A server without webhooks neither waits for the import nor
pays the memory.
"""
