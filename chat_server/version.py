"""The version, in a module of its own, because the package's root imports all other modules."""

__version__ = "0.1.0"
