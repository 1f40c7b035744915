"""The version: a module of its own, because the package's root imports from all the others."""

__version__ = "0.1.0"
