"""The memory of a run is known from configurations alone, and is what the run then takes."""

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext

import huggingface_hub
import pytest
import torch

from dreambooth.cli import main
from dreambooth.core.device import parse_memory
from dreambooth.core.errors import SettingError
from dreambooth.families import ModelSource, family_of
from dreambooth.memory.cards import PREDICTED, card_of
from dreambooth.memory.estimate import Estimate
from dreambooth.memory.phases import Rehearsal
from dreambooth.setup.config import TrainConfig, resolve
from tests import tiny

PHASES = ["class images", "encoding", "training", "previews", "saving"]


@pytest.fixture
def configurations(pipelines, tmp_path):
    """A family's folder without weights and vocabularies."""

    def folder(name: str):
        return shutil.copytree(pipelines(name), tmp_path / name, ignore=lambda _, names: [n for n in names if not _says_what_it_is(n)])

    def _says_what_it_is(name: str) -> bool:
        return "." not in name or name in ("model_index.json", "config.json", "scheduler_config.json", "tokenizer_config.json")

    return folder


def wanted(folder, **branches) -> TrainConfig:
    tree = {"model": {"pretrained_model_name_or_path": str(folder)}, "photos": {"class_noun": "dog"}, "cropping": {"resolution": 32}}
    config = TrainConfig.parse({**tree, "method": {"kind": "lora"}, **branches})
    return resolve(config, family_of(config.model))


def rehearsed(folder, *, on_cpu=True, mode=None, **branches):
    rehearsal = Rehearsal(wanted(folder, **branches), on_cpu=on_cpu, mode=mode)
    return rehearsal, {phase.name: phase.peak for phase in rehearsal.phases()}


@pytest.mark.parametrize("family", tiny.PIPELINES)
def test_every_family_is_planned_from_its_configurations(family, configurations):
    rehearsal, peaks = rehearsed(configurations(family), on_cpu=False)
    assert list(peaks) == [name for name in PHASES if name != "class images" or rehearsal.config.has_prior]
    weights = rehearsal.weights()[rehearsal.family.denoiser_name]
    assert all(peak.parts["weights"] >= weights for name, peak in peaks.items() if name != "encoding")
    assert "weights" not in peaks["encoding"].parts
    assert peaks["training"].parts["activations"] > 0
    assert all(peak.bytes == sum(peak.parts.values()) for peak in peaks.values())


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("family", ["stable_diffusion", "flux"])
def test_tensors_without_numbers_are_counted_as_those_with_numbers(family, method, configurations):
    folder = configurations(family)
    _, fake = rehearsed(folder, method={"kind": method})
    _, real = rehearsed(folder, method={"kind": method}, mode=nullcontext())
    assert {name: peak.bytes for name, peak in fake.items()} == pytest.approx({name: peak.bytes for name, peak in real.items()}, rel=0.03)


def test_the_whole_model_has_gradients_and_a_state_of_eight_bytes_a_weight(configurations):
    rehearsal, peaks = rehearsed(configurations("stable_diffusion"), method={"kind": "full"})
    state = rehearsal.config.optimization.chosen.state_bytes * rehearsal.trainable
    assert sum(one.nbytes for one in rehearsal.states) == pytest.approx(state, rel=0.01)
    assert peaks["saving"].parts["optimizer"] >= state


def test_checkpointing_lowers_what_activations_take(configurations):
    folder = configurations("stable_diffusion")
    plain, less = (
        rehearsed(folder, cropping={"resolution": 128}, loop={"gradient_checkpointing": on})[1]["training"] for on in (False, True)
    )
    assert less.parts["activations"] < 0.9 * plain.parts["activations"]


def test_frozen_weights_lie_in_half_precision(configurations):
    folder = configurations("stable_diffusion")
    whole, half = (rehearsed(folder, loop={"mixed_precision": precision})[0].weights()["text_encoder"] for precision in ("no", "bf16"))
    assert half == pytest.approx(whole / 2, rel=0.02)


def test_the_command_says_it_to_people_and_to_programs(configurations, capsys):
    folder = str(configurations("stable_diffusion"))
    assert main(["plan", folder, "--method", "lora", "--resolution", "32", "--memory", "12GB"]) == 0
    assert "fits 12 GiB" in capsys.readouterr().out
    assert main(["plan", folder, "--method", "lora", "--resolution", "32", "--memory", "100MB", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["phases"]) == PHASES
    assert found["fits"] is False
    assert found["peak_gib"] == max(phase["peak_gib"] for phase in found["phases"].values())


def test_a_model_of_the_hub_is_planned_from_small_files(configurations, monkeypatch, capsys):
    folder, asked = configurations("stable_diffusion"), []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **options: asked.append((name, options)) or str(folder))
    assert main(["plan", "somebody/model-of-the-hub", "--resolution", "32", "--device", "cpu"]) == 0
    assert "somebody/model-of-the-hub" in capsys.readouterr().out
    [(name, options)] = asked
    assert name == "somebody/model-of-the-hub"
    assert all(pattern.endswith((".json", ".yaml")) for pattern in options["allow_patterns"])


def test_configurations_that_make_no_model_are_named(configurations):
    folder = configurations("stable_diffusion")
    (folder / "unet" / "config.json").write_text(
        '{"_class_name": "UNet2DConditionModel", "cross_attention_dim": 32, "block_out_channels": [7]}'
    )
    with pytest.raises(SettingError):
        Rehearsal(wanted(folder), on_cpu=True)


@pytest.mark.parametrize(("text", "found"), [("12GB", 12 << 30), ("12 GiB", 12 << 30), ("1.5g", 3 << 29), ("800mb", 800 << 20)])
def test_memory_is_read_in_the_units_in_which_it_is_sold(text, found):
    assert parse_memory(text) == found


@pytest.mark.parametrize("text", ["", "much", "-3GB", "12", "0GB", "12 apples"])
def test_what_is_no_amount_of_memory_is_refused(text):
    with pytest.raises(SettingError, match="--memory"):
        parse_memory(text)


def test_without_a_known_limit_there_is_no_verdict(configurations):
    rehearsal = Rehearsal(wanted(configurations("stable_diffusion")), on_cpu=False)
    assert Estimate("mps", list(rehearsal.phases()), rehearsal.weights()).fits is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc says what is resident")
@pytest.mark.parametrize("phase", ["training", "drawing"])
def test_the_growth_of_a_tiny_run_is_what_was_predicted_within_64_mib(phase, configurations):
    folder = str(configurations("stable_diffusion"))
    command = [sys.executable, "-m", "benchmarks.memory.measure", folder, phase, "--method", "lora", "--resolution", "64"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert abs(found["measured"] - found["predicted"]) < 64 << 20


def test_nothing_random_is_used_up_by_a_plan(configurations):
    before = torch.random.get_rng_state()
    rehearsed(configurations("stable_diffusion"))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_source_that_is_here_asks_nobody(configurations):
    source = ModelSource(pretrained_model_name_or_path=str(configurations("flux")))
    assert source.configurations() is source


def test_the_smallest_card_of_a_known_model_is_as_large_as_its_row_says():
    rows = json.loads(PREDICTED.read_text())
    assert rows
    for row in rows:
        phases = {name: value for name, value in row.items() if name not in ("model", "way", "side", "peak")}
        assert row["peak"] == max(phases.values())
        card = card_of(row["model"], row["way"], row["side"])
        assert card is None or card >= row["peak"]
    assert card_of("sd15", "LoRA, nf4") == 6
    assert card_of("a model that nobody knows", "LoRA") is None
