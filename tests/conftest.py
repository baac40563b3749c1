"""What every test may rely on, however the suite was started."""

import signal

import pytest


@pytest.fixture(autouse=True)
def _data_of_its_own(tmp_path_factory, monkeypatch):
    """What a test's runs teach is forgotten with it."""
    monkeypatch.setenv("LPLAN_DATA", str(tmp_path_factory.mktemp("lplan-data")))


@pytest.fixture(scope="session", autouse=True)
def _signals_arrive():
    """A suite that was started in the background inherits an ignored SIGINT, and so would every child."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
