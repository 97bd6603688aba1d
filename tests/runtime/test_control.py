# SPDX-License-Identifier: LGPL-3.0-or-later
"""Messages between processes, with threads in their place."""

import queue
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from deepmd.base.errors import InputError
from deepmd.runtime import control as module
from deepmd.runtime.control import Control, RankLostError
from deepmd.runtime.distributed import Distributed


class Group(Distributed):
    def __init__(self, control):
        self.rank, self.size, self.control = control.rank, control.size, control


@pytest.fixture
def controls():
    """Three connected ends."""
    told: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def exchange(own):
        if own is None:
            return told.get(timeout=120)
        for _ in range(2):
            told.put(own)
        return own

    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda k: Control(k, 3, exchange, "127.0.0.1"), range(3)))
    yield made
    for one in made:
        one.close()
    assert not [t for t in threading.enumerate() if t.name == "control" and t.join(5)]


def everywhere(controls, function):
    with ThreadPoolExecutor(len(controls)) as pool:
        return list(pool.map(function, controls))


def test_text_and_arrays_of_the_first(controls):
    arrays = {"a/b": np.arange(6.0).reshape(2, 3), "n": np.array(3), "s": np.array(["x"])}

    def exchange(one):
        return one.broadcast(*(["Å"] if one.rank == 0 else []), **(arrays if one.rank == 0 else {}))

    for text, got in everywhere(controls, exchange):
        assert text == "Å"
        assert got.keys() == arrays.keys()
        assert all(np.array_equal(got[k], v) and got[k].dtype == v.dtype for k, v in arrays.items())
    assert everywhere(controls, lambda one: one.gather(f"of {one.rank}"))[0] == [
        "of 0",
        "of 1",
        "of 2",
    ]


def test_an_orderly_end(controls):
    def train(one):
        with Group(one).together():
            return one.rank

    assert everywhere(controls, train) == [0, 1, 2]


def failing(controls, at, error):
    """One process fails while the others wait for the first."""

    def train(one):
        try:
            with Group(one).together():
                if one.rank == at:
                    raise error
                one.broadcast() if one.rank else one.gather("")
        except (InputError, KeyError, SystemExit) as raised:  # what the process ends with
            return raised
        return None

    return everywhere(controls, train)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_error_ends_all(controls, at):
    raised = failing(controls, at, InputError("is wrong", where="the input"))
    assert isinstance(raised[0], InputError)
    assert str(raised[0]) == "the input: is wrong"
    assert [getattr(e, "code", None) for e in raised[1:]] == [1, 1]


def test_a_defect_keeps_its_traceback(controls):
    raised = failing(controls, 2, KeyError("x"))
    assert isinstance(raised[2], KeyError)
    assert isinstance(raised[0], RankLostError)
    assert str(raised[0]) == "process 2 of 3 failed: KeyError"


@pytest.mark.parametrize("lost", [0, 2])
def test_a_connection_that_breaks(controls, lost):
    controls[lost]._closing = True  # it notices nothing, as if it were gone
    for s in controls[lost]._sockets.values():
        s.shutdown(socket.SHUT_RDWR)
    error = controls[1].lost(RuntimeError("connection closed by peer"))
    assert isinstance(error, RankLostError)
    assert f"process {lost} of 3 ended without a message" in str(error)
    assert controls[1].speaks is (lost == 0)


def test_an_unexplained_error_stays(controls, monkeypatch):
    error = RuntimeError("shapes differ")
    monkeypatch.setattr(module, "NEWS", 0.2)
    assert controls[1].lost(error) is error


def test_other_programs_are_turned_away(monkeypatch):
    def exchange(own):
        about = module.json.loads(own)
        with socket.create_connection(("127.0.0.1", about["port"])) as s:
            s.sendall(b"GET / HTTP/1.1\r\n" + bytes(40))
        return own

    monkeypatch.setattr(module, "START", 0.5)
    with pytest.raises(InputError, match="process 0 of 2 cannot reach the others"):
        Control(0, 2, exchange, "127.0.0.1")
