"""`python -m chat_server` is the same as `chat-server`."""

from .cli import main

main(prog_name="chat-server")
