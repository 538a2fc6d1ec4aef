"""A few of the kills of `make chaos`, in every run of the suite."""

import pytest

from tests.chaos.kill import trial, undisturbed
from tests.chaos.victims import VICTIMS, World


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world")).build()


KILLS = {"full": 2, "lora": 2, "later stage": 1, "generate": 1, "export kohya": 2}


@pytest.mark.parametrize(("name", "kills"), KILLS.items())
def test_a_command_that_is_killed_and_started_again_ends_as_if_it_had_not_been(name, kills, world, tmp_path):
    victim = VICTIMS[name]
    calm = undisturbed(victim, world, tmp_path / "work")
    found = [trial(victim, world, tmp_path / "work", calm, seed) for seed in range(kills)]
    assert not [(one.where, one.wrong) for one in found if one.wrong]
