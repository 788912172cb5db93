"""What is said before an experiment is carried out."""

import os
from dataclasses import replace

import pytest

from normlab.experiments import speed
from normlab.experiments.conduct import conduct


class Begun(Exception):
    """Instead of measuring."""


def begin(setting):
    raise Begun


@pytest.mark.parametrize(("load", "timed", "said"), [(1.0, True, True), (0.1, True, False), (1.0, False, False)])
def test_times_on_a_busy_machine_are_announced(load, timed, said, tiny, tmp_path, capsys, monkeypatch):
    """By the load before anything was run: afterwards it is our own. In shares of the cores."""
    monkeypatch.setattr(os, "getloadavg", lambda: (load * (os.cpu_count() or 1), 0.0, 0.0), raising=False)
    experiment = replace(speed.EXPERIMENT, measure=begin)
    if not timed:
        experiment = replace(experiment, timed=False)
    with pytest.raises(Begun):
        conduct([experiment], tiny, tmp_path)
    assert ("the machine was busy before this began (load" in capsys.readouterr().err) == said
