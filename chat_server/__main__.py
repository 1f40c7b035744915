"""`python -m chat_server` is `chat-server`."""

from .cli import main

main(prog_name="chat-server")
