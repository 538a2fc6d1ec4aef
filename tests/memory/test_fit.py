"""A training that is too large for its device stops before anything is loaded."""

import pytest

import dreambooth
from dreambooth.core.errors import SettingError
from dreambooth.run import fit, train
from dreambooth.training.records import Done, Message
from tests.training.runs import config


@pytest.fixture
def wanted(pipelines, tmp_path, monkeypatch):
    """A training whose model counts as large, on a device with so many bytes free."""

    def with_free(free: int, **settings):
        monkeypatch.setattr(fit, "SMALL", 0)
        monkeypatch.setattr(fit, "free_bytes", lambda device: free)
        return config(pipelines("stable_diffusion"), root=tmp_path, max_train_steps=1, output_dir=tmp_path / "run", **settings)

    return with_free


def test_what_does_not_fit_is_refused_before_it_is_loaded_and_leaves_nothing(wanted, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "load_base", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(SettingError, match="--no_fit_check") as refused:
        list(dreambooth.stream.train(wanted(1 << 20)))
    assert "--gradient_checkpointing" in str(refused.value)
    assert not list((tmp_path / "run").glob("*.yaml"))


def test_no_fit_check_goes_on_all_the_same(wanted):
    assert any(isinstance(record, Done) for record in dreambooth.stream.train(wanted(1 << 20, fit_check=False)))


def test_what_fits_says_what_it_needs_and_is_trained(wanted):
    records = list(dreambooth.stream.train(wanted(64 << 30)))
    assert any(isinstance(record, Message) and record.text.startswith("Memory: cpu needs") for record in records)
    assert isinstance(records[-1], Done)
