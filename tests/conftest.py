"""What every test may rely on, however the suite was started."""

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def _signals_arrive():
    """A suite that was started in the background inherits an ignored SIGINT, and so would every child."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
