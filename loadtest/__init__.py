"""Load tests: `python -m loadtest --help`."""
