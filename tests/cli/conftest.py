import pytest

from cli_support import dummy_server


@pytest.fixture(scope="session")
def server():
    with dummy_server("--served-model-name", "tiny") as running:
        yield running.wait_ready()
