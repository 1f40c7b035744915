"""All tests; failing assertions of helpers show their values like those of tests."""

import pytest

HELPERS = ("rig", "web.visitor", "e2e.cluster", "client.helpers", "broker.helpers", "cli.program")

pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in HELPERS))
