"""What a user may ask of those who keep their messages: an export, and erasure."""

from .user_data import Export, UserData

__all__ = ["Export", "UserData"]
