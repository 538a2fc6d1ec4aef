"""A training that is too large for its device stops before anything is loaded."""

import json
import re

import pytest
import torch
import yaml

import dreambooth
from dreambooth.cli import main
from dreambooth.cli.parse import read_flags
from dreambooth.core.errors import RunError, SettingError
from dreambooth.families import family_of
from dreambooth.memory import estimate
from dreambooth.memory.fitting import least_estimate
from dreambooth.run import fit, train
from dreambooth.setup.config import TrainConfig, resolve
from dreambooth.training import loop
from dreambooth.training.records import Done, Message
from tests.training.runs import config


@pytest.fixture(autouse=True)
def without_python(monkeypatch):
    """What Python itself takes is much beside these models."""
    monkeypatch.setattr(estimate, "PROCESS", 0)


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


def least(folder, **settings) -> int:
    """Bytes that a plan says."""
    device = torch.device("cpu")
    asked = config(folder, root=folder.parent, **settings)
    return least_estimate(resolve(asked, family_of(asked.model)), device, limit=None).peak


@pytest.fixture
def large(pipelines, tmp_path):
    """A training whose activations are most of what it needs: (folder, settings)."""
    return pipelines("stable_diffusion"), {"resolution": 64, "with_prior_preservation": False, "photo_size": (64, 64)}


def test_fit_chooses_the_cheapest_setting_that_suffices_and_says_what_it_costs(large, wanted):
    folder, settings = large
    enough = least(folder, gradient_checkpointing=True, **settings)
    assert enough < least(folder, **settings)
    records = list(dreambooth.stream.train(wanted(enough, fit="device", **settings)))
    [said] = [record.text for record in records if isinstance(record, Message) and record.text.startswith("Fit: --")]
    assert "--gradient_checkpointing (about a quarter slower)" in said
    kept = yaml.safe_load((records[-1].output_dir / "config.yaml").read_text())["loop"]
    assert kept["gradient_checkpointing"] is True
    assert kept["train_batch_size"] == 2


def test_a_run_that_goes_on_keeps_what_fit_chose_whatever_is_free_by_then(large, wanted, monkeypatch):
    folder, settings = large
    enough = least(folder, gradient_checkpointing=True, **settings)
    list(dreambooth.stream.train(wanted(enough, fit="device", checkpointing_steps=1, **settings)))
    more = wanted(64 << 30, fit="device", checkpointing_steps=1, resume_from_checkpoint="latest", **settings)
    more = more.updated({("loop", "max_train_steps"): 2})
    done = list(dreambooth.stream.train(more))[-1]
    assert isinstance(done, Done)
    assert yaml.safe_load((done.output_dir / "config.yaml").read_text())["loop"]["gradient_checkpointing"] is True


@pytest.mark.parametrize("memory", ["1MB", "1.5 MiB"])
def test_less_than_the_least_is_refused_with_the_least(memory, wanted, monkeypatch):
    with pytest.raises(SettingError, match="--fit") as refused:
        list(dreambooth.stream.train(wanted(64 << 30, fit=memory, resolution=64, photo_size=(64, 64))))
    assert re.search(r"least .* needs is [\d.]+ MiB", str(refused.value))


def test_what_fits_already_is_left_as_it_is(wanted):
    done = list(dreambooth.stream.train(wanted(64 << 30, fit="device")))[-1]
    loop = yaml.safe_load((done.output_dir / "config.yaml").read_text())["loop"]
    assert (loop["gradient_checkpointing"], loop["mixed_precision"]) == (False, "no")


@pytest.mark.parametrize("amount", ["much", "12 apples", "-1GB"])
def test_no_amount_of_memory_is_no_fit(amount, wanted):
    with pytest.raises(SettingError, match="--fit"):
        list(dreambooth.stream.train(wanted(64 << 30, fit=amount)))


def test_memory_that_runs_out_is_answered_by_the_plan(wanted, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "forward_backward", full)
    with pytest.raises(RunError, match=r"needs .* MiB; with --\w+"):
        list(dreambooth.stream.train(wanted(64 << 30, resolution=64, photo_size=(64, 64))))


def test_a_card_that_others_use_is_known_by_what_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 << 30, 24 << 30))
    device = torch.device("cuda")
    assert estimate.free_bytes(device) == 5 << 30
    assert fit._taken(device, 5 << 30) == " (free of 24 GiB)"


def test_plan_takes_fit_too_and_names_the_flags(large, capsys):
    folder, settings = large
    enough = least(folder, gradient_checkpointing=True, **settings)
    flags = ["--resolution", "64", "--train_batch_size", "2", "--no-with_prior_preservation", "--skip_final_inference", "--json"]
    assert main(["plan", str(folder), "--device", "cpu", "--fit", f"{enough / 2**20}MB", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "--gradient_checkpointing" in found["fit"]
    assert found["fits"]


def test_fit_may_stand_without_a_value():
    for words in (["--fit", "--rank", "8"], ["--fit"]):
        assert read_flags(["--method", "lora", *words], TrainConfig)[0]["loop"] == {"fit": "device"}
    assert read_flags(["--fit", "12GB"], TrainConfig)[0]["loop"] == {"fit": "12GB"}
