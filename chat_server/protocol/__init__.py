"""The protocol `chat.v1` without any I/O or clock: messages, codecs, errors and the session."""
