"""The server's settings: one frozen, typed object, read from files, the environment and flags."""

from .hosts import is_loopback
from .loading import load_settings, with_flags
from .origins import origin_pattern
from .rules import advice, check
from .schema import (
    DEVELOPMENT_SECRET,
    AuthSettings,
    BrokerSettings,
    DatabaseSettings,
    DefaultTopics,
    GatewaySettings,
    HookSettings,
    HttpSettings,
    LimitSettings,
    LogSettings,
    Namespace,
    RedisSettings,
    ServerSettings,
    Settings,
    SettingsError,
    split_bind,
)

__all__ = [
    "DEVELOPMENT_SECRET",
    "AuthSettings",
    "BrokerSettings",
    "DatabaseSettings",
    "DefaultTopics",
    "GatewaySettings",
    "HookSettings",
    "HttpSettings",
    "LimitSettings",
    "LogSettings",
    "Namespace",
    "RedisSettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "advice",
    "check",
    "is_loopback",
    "load_settings",
    "origin_pattern",
    "split_bind",
    "with_flags",
]
