"""Torch gets the cores that other programs leave."""

import itertools

import pytest
import torch

from ilbook.page import threads


@pytest.fixture(autouse=True)
def as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("cores", "others", "most", "wanted"),
    [(2, 0.1, 2, 2), (2, 1.0, 2, 1), (2, 2.0, 2, 1), (8, 5.2, 8, 3), (8, 0.0, 4, 4), (2, 0.0, 1, 5)],
)
def test_threads_are_the_free_cores(monkeypatch, cores, others, most, wanted):
    torch.set_num_threads(5)
    seconds = itertools.count(100.0, 2.0)
    monkeypatch.setattr(threads.os, "cpu_count", lambda: cores)
    # In each second this process works on one core, the others on theirs.
    moments = ((now, now * (1 + others), now) for now in seconds)
    monkeypatch.setattr(threads.Threads, "times", staticmethod(lambda: next(moments)))
    monkeypatch.setattr(threads.time, "monotonic", lambda: 1e6)
    threads.Threads(most).look()
    assert torch.get_num_threads() == wanted


def test_the_machine_is_not_looked_at_all_the_time():
    looking = threads.Threads(2)
    then = looking._then
    looking.look()
    assert looking._then is then
    now, busy, own = threads.Threads.times()
    assert now > 0 and busy >= own > 0
