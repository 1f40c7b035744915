"""The thin HTTP surface: messages, health and the chat page, with errors as RFC 9457 problems."""
