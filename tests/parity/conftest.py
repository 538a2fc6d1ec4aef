"""A place for each test: a tiny model of a family, photos, a folder for the run."""

import pytest

from tests.parity.commands import Place


@pytest.fixture
def place(pipelines, photos, tmp_path):
    """`place("sdxl")`: that family's model, four photos and an output folder."""

    def of(family: str = "stable_diffusion") -> Place:
        return Place(pipelines(family), photos, tmp_path / "out")

    return of
