"""The server's settings: one frozen, typed object, read from files, the environment and flags."""

from . import reference
from .environ import variable_of
from .hosts import is_loopback
from .loading import load_settings, with_flags
from .mail import MailServer, mail_address_rule, parse_mail_url
from .origins import is_same_host, origin_pattern
from .rules import advice, check, decide_accounts
from .schema import (
    DEVELOPMENT_SECRET,
    AccountSettings,
    AuthSettings,
    BrokerSettings,
    DatabaseSettings,
    DefaultTopics,
    GatewaySettings,
    HookSettings,
    HttpSettings,
    LimitSettings,
    LogSettings,
    MailSettings,
    MetricsSettings,
    Namespace,
    RedisSettings,
    Role,
    ServerSettings,
    Settings,
    SettingsError,
    TracingSettings,
    Webhook,
    masked,
    split_bind,
)

__all__ = [
    "DEVELOPMENT_SECRET",
    "AccountSettings",
    "AuthSettings",
    "BrokerSettings",
    "DatabaseSettings",
    "DefaultTopics",
    "GatewaySettings",
    "HookSettings",
    "HttpSettings",
    "LimitSettings",
    "LogSettings",
    "MailServer",
    "MailSettings",
    "MetricsSettings",
    "Namespace",
    "RedisSettings",
    "Role",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "TracingSettings",
    "Webhook",
    "advice",
    "check",
    "decide_accounts",
    "is_loopback",
    "is_same_host",
    "load_settings",
    "mail_address_rule",
    "masked",
    "origin_pattern",
    "parse_mail_url",
    "reference",
    "split_bind",
    "variable_of",
    "with_flags",
]
