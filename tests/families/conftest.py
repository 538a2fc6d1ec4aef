"""A loaded family of each kind, fresh for every test."""

import pytest

from tests import tiny


@pytest.fixture(params=tiny.PIPELINES)
def family(request, pipelines):
    return tiny.load(pipelines(request.param))
