"""The identity and the permissions of clients: tokens, their keys, and their grants."""
