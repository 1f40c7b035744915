"""What a user may do, whoever asks: WebSocket commands, HTTP requests, the application.

Nothing else publishes: every operation here checks the topic, the token's grant and the fields,
runs the hooks, acts, and returns its answer.
"""
