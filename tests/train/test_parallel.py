# SPDX-License-Identifier: LGPL-3.0-or-later
"""What processes that train together have in common before the first step, with one process."""

import json
from pathlib import Path

import pytest

from deepmd.runtime.distributed import ALONE, Distributed
from deepmd.train.parallel import scaled_rate, shared_start


class Follower(Distributed):
    """Second process of two; the first one found ``found``."""

    rank, size = 1, 2

    def __init__(self, found):
        self.found = found

    def broadcast(self, text="", **arrays):
        assert text == "null"  # it has found nothing by itself
        return json.dumps(self.found), {}


class Start:
    def __init__(self, path):
        self.path = Path(path)


OPTIONS = ("init_model", "restart", "init_frz_model", "finetune")


@pytest.mark.parametrize("option", OPTIONS)
def test_the_others_read_the_file_that_the_first_one_found(option):
    reads = []

    def read(**given):
        reads.append(given)
        return Start(*given.values())

    given = dict.fromkeys(OPTIONS) | {option: "folder"}
    start = shared_start(Follower("folder/model.ckpt-7.pt"), read, **given)
    assert reads == [{option: "folder/model.ckpt-7.pt"}]
    assert start.path == Path("folder/model.ckpt-7.pt")
    assert shared_start(Follower(None), read, **dict.fromkeys(OPTIONS)) is None


def test_the_rate_of_several_processes():
    section = {"start_lr": 1e-3, "scale_by_worker": "linear"}
    pair = Follower(None)
    assert scaled_rate(section, ALONE) == section
    assert scaled_rate(section, pair) == section  # as DeePMD-kit's PyTorch
    pair.scales_rate = True
    assert scaled_rate(section, pair)["start_lr"] == 2e-3
    assert scaled_rate({"start_lr": 1e-3}, pair)["start_lr"] == 1e-3
