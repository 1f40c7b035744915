"""Run `python -m tests.chaos`."""

from .cli import main

main(prog_name="python -m tests.chaos")
