"""The operations of users, for WebSocket commands, HTTP requests and the application alike.

No other code publishes. `Service.execute` checks the topic and the token's grant and runs the
hooks. Then `execute` calls the command's operation, which acts and returns the answer.
"""
