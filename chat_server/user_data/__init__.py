"""Users' rights over their stored messages: export and erasure."""

from .user_data import Export, UserData

__all__ = ["Export", "UserData"]
