"""One platform for the tests that only look at it."""

import harness
import pytest


@pytest.fixture(scope="session")
def platform(tmp_path_factory):
    with harness.platform_on(tmp_path_factory.mktemp("cli") / "data") as platform:
        yield platform
