"""What a user may do, whoever asks: WebSocket commands, HTTP requests, the application.

Nothing else publishes. `Service.execute` checks the topic and the token's grant and runs the hooks.
Then it calls the command's operation, which acts and returns the answer.
"""
