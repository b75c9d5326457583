"""When a training stops before its end."""

import os
import signal
import time

import pytest

from nemo_plugins.training.stop_requests import END, StopRequests


def test_the_first_signal_asks_and_the_second_stops(monkeypatch):
    monkeypatch.delenv(END, raising=False)
    before = signal.getsignal(signal.SIGUSR1)
    with StopRequests(5) as stops:
        assert stops.asked() is None
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stops.asked() == "SIGUSR1"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
    assert signal.getsignal(signal.SIGUSR1) is before


@pytest.mark.parametrize(("left", "stops"), [(4 * 60, True), (6 * 60, False)])
def test_the_end_of_the_slurm_job(monkeypatch, left, stops):
    monkeypatch.setenv(END, str(int(time.time() + left)))
    assert bool(StopRequests(5).asked()) is stops


def test_it_takes_the_signals_back(monkeypatch):
    monkeypatch.delenv(END, raising=False)
    with StopRequests(5) as stops:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a library might
        stops.take()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stops.asked() == "SIGTERM"
