"""Two processes hold a transformer together, and learn, draw and save what one does that has all of it."""

import filecmp
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from dreambooth.cli import main
from dreambooth.core.errors import RunError, SettingError
from dreambooth.families import family_of, sampling
from dreambooth.families.offload import blocks_of
from dreambooth.memory.fitting import fitting, least_estimate
from dreambooth.memory.phases import Rehearsal
from dreambooth.memory.shares import CountedShards
from dreambooth.metrics.perceptual import convert_lpips
from dreambooth.run import request
from dreambooth.run.train import train
from dreambooth.setup.config import resolve
from dreambooth.setup.sharding import refuse_sharding
from dreambooth.training.objective import Objective
from dreambooth.training.ranks import Ranks, launcher_settings
from dreambooth.training.step import forward_backward
from tests import tiny
from tests.metrics import encoders
from tests.training import held
from tests.training.runs import config


@pytest.fixture(scope="module")
def root(pipelines, tmp_path_factory) -> Path:
    """What one process and two have made of the same: `one` and `two`."""
    root = tmp_path_factory.mktemp("held")
    for family in held.FAMILIES:
        (root / family).symlink_to(pipelines(family), target_is_directory=True)
    tiny.photos(root / "photos", count=2)
    for number, path in enumerate(sorted(tiny.photos(root / "wide", count=2, size=(48, 24)).iterdir())):
        path.rename(root / "photos" / f"wide-{number}.png")
    convert_lpips(*encoders.lpips_states(), root / "encoders" / "lpips", size=64)
    encoders.dino_folder(root / "encoders" / "dino")
    encoders.clip_folder(root / "encoders" / "clip")
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for name, launcher in (("one", []), ("two", several)):
        (root / name).mkdir()
        done = subprocess.run(
            [sys.executable, *launcher, "-m", "tests.training.held", str(root), str(root / name)], cwd=Path(__file__).parents[2],
            capture_output=True, text=True, timeout=400, env={**os.environ, "PYTHONPATH": "."},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-20_000:]  # what each process says, and the launcher
    return root


def facts(path: Path) -> dict[str, float]:
    with safe_open(path, "pt") as file:
        return {name: float(value) for name, value in file.metadata().items()}


@pytest.mark.parametrize(("family", "method"), held.CASES)
def test_the_gradients_in_float64_are_those_of_one_process(root, family, method):
    one, two = (root / name / f"{family}, {method}.safetensors" for name in ("one", "two"))
    left, right = load_file(one), load_file(two)
    assert left.keys() == right.keys() and any(gradient.any() for gradient in left.values())
    for place, gradient in left.items():  # some networks compute times in float32
        assert torch.allclose(gradient, right[place], rtol=1e-5, atol=1e-6 * float(gradient.abs().max()) + 1e-12), place
    assert facts(two)["norm"] == pytest.approx(facts(one)["norm"], rel=1e-6)


@pytest.mark.parametrize(("family", "method"), [case for case in held.CASES if "full" not in case[1]])
def test_each_process_has_about_half_of_the_frozen_weights(root, family, method):
    whole, share = (facts(root / name / f"{family}, {method}.safetensors")["frozen"] for name in ("one", "two"))
    assert 0.5 <= share / whole < 0.6


def learned(run: Path) -> dict[str, torch.Tensor]:
    """All tensors of a result and of its checkpoints, with the optimizer's."""
    files = {str(path.relative_to(run)): load_file(path) for path in run.rglob("*.safetensors")}
    return {f"{file}/{name}": value for file, tensors in files.items() for name, value in tensors.items()}


def same_but_for_rounding(left: Path, right: Path) -> None:
    one, two = learned(left), learned(right)
    assert one.keys() == two.keys()
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4  # a tenth of a step


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_leaves_what_that_of_one_process_leaves(root, method):
    one, two = root / "one" / method, root / "two" / method
    same_but_for_rounding(one, two)
    files = [{str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} for run in (one, two)]
    assert files[0] == files[1]
    for path in sorted(one.rglob("config.json")) + sorted(one.rglob("model_index.json")):
        assert path.read_text() == (two / path.relative_to(one)).read_text()
    untuned, divided = (np.asarray(Image.open(next(run.glob("samples/step-000000/*.png")))) for run in (one, two))
    assert np.array_equal(untuned, divided)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_is_due_and_asked_for_is_drawn_and_saved_by_all_together(root, method):
    """One that drew, saved or scored without the other would wait for it for ever, in the middle of a block."""
    first, second = ((root / "two" / f"{method}-{rank}.txt").read_text().split() for rank in (0, 1))
    one = (root / "one" / f"{method}-0.txt").read_text().split()
    assert first == one and {"Preview-0", "Preview-1", "Saved-1", "Scores-0", "Scores-4"} <= set(one)
    assert [word for word in second if word.startswith("Step")] == [f"Step-{step}" for step in (1, 2, 3, 4)]
    records = [json.loads((root / name / method / "run.json").read_text()) for name in ("one", "two")]
    assert [record["result_step"] for record in records] == [2, 2], "the best is what is kept, by all processes"


def test_who_is_stopped_while_class_images_are_drawn_ends_together(root):
    """The others were left with a connection that had been closed."""
    ends = [(root / name).read_text() for name in ("one/stopped-0.txt", "two/stopped-0.txt", "two/stopped-1.txt")]
    assert ends == ["Interrupted 0", "Interrupted 1", "Interrupted 1"]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_goes_on_exactly_and_from_and_to_another_number_of_processes(root, method, tmp_path, monkeypatch):
    whole, resumed = (root / "two" / name / "checkpoint-4" for name in (method, f"{method} from two"))
    files = [path.relative_to(whole) for path in whole.rglob("*.safetensors")]
    assert len(files) >= 2 and not [path for path in files if not filecmp.cmp(whole / path, resumed / path, shallow=False)]
    same_but_for_rounding(root / "one" / method / "checkpoint-4", root / "two" / f"{method} from one" / "checkpoint-4")
    monkeypatch.setenv("DREAMBOOTH_CACHE", str(root / "one" / "cache"))
    shutil.copytree(root / "two" / method / "checkpoint-2", tmp_path / "alone" / "checkpoint-2")
    held.run(root, tmp_path, Ranks(0, 1, torch.device("cpu")), "alone", method=method, **held.RESUMED)
    same_but_for_rounding(root / "two" / method / "checkpoint-4", tmp_path / "alone" / "checkpoint-4")


def test_no_weights_rounded_copy_outlives_its_block(root):
    """autocast keeps them all until the pass has ended: half of the model, in every process."""
    kept: list[bool] = []
    for is_divided in (False, True):
        family, learner = held.learning(root / "flux", root / "one", Ranks(0, 1, torch.device("cpu")), method="full")
        family.shards = CountedShards(family.denoiser, 2, learns=True) if is_divided else None
        family.denoiser.register_forward_pre_hook(lambda *_: kept.append(torch.is_autocast_cache_enabled()))
        for part in family.parts.values():
            part.float()
        batch = held.update(family, learner)
        halves = replace(batch, x=batch.x.float(), eps=batch.eps.float(), weight=batch.weight.float())
        forward_backward(family, halves, process=family.process, objective=Objective(), precision="bf16")
        sampling.call(family, ["a dog"], [0], sampling.Sampling(height=16, width=16, num_inference_steps=1), None, "bf16")
    assert kept == [True, True, False, False]


def test_memory_that_runs_out_while_all_draw_ends_the_run(pipelines, monkeypatch):
    """One process that halved its pictures alone would ask for blocks at other times than the others."""
    family = tiny.load(pipelines("flux"))
    family.shards = CountedShards(family.denoiser, 2, learns=False)
    asked = []

    def full(family, prompts, *_):
        asked.append(len(prompts))
        raise MemoryError

    monkeypatch.setattr(sampling, "_batch", full)
    with pytest.raises(RunError, match="--sample_batch_size"):
        list(sampling.draw(family, ["a dog"] * 4, [0, 1, 2, 3], sampling=sampling.Sampling(height=16, width=16)))
    assert asked == [4]


def refused(model: Path, tmp_path: Path, **settings) -> SettingError:
    """What is said of a run that nothing is loaded for."""
    with pytest.raises(SettingError) as said:
        list(train(config(model, root=tmp_path, output_dir=tmp_path / "run", **settings)))
    assert not (tmp_path / "run").exists()
    return said.value


FULL = {"method": "full"}
BFLOAT16 = {"mixed_precision": "bf16", "gradient_checkpointing": True}


@pytest.mark.parametrize(("setting", "given"), [
    ("--torch_compile", {"method": "lora", "torch_compile": True}),
    ("--fused_backward_pass", {**FULL, "fused_backward_pass": True, "max_grad_norm": 0.0}),
    ("--group_offload", {"method": "lora", "group_offload": True, "gradient_checkpointing": True}),
    ("--use_ema", {**FULL, "use_ema": True}),
    ("--mixed_precision", {**FULL, "mixed_precision": "fp16", "gradient_checkpointing": True}),
    ("--gradient_checkpointing", {**FULL, "mixed_precision": "bf16"}),
    ("--optimizer", {**FULL, **BFLOAT16, "optimizer": "prodigy", "learning_rate": 1.0}),
    ("--use_8bit_adam", {**FULL, **BFLOAT16, "use_8bit_adam": True}),
])  # fmt: skip
def test_what_cannot_be_had_of_shares_is_refused_by_name(setting, given, pipelines, tmp_path):
    wanted = config(pipelines("flux"), root=tmp_path, fsdp=2, **given)
    with pytest.raises(SettingError, match="fsdp") as said:
        refuse_sharding(wanted)
    assert said.value.setting == setting
    refuse_sharding(wanted.updated({("execution", "fsdp"): 1}))


def test_a_unet_and_other_counts_of_processes_are_refused(pipelines, tmp_path, monkeypatch):
    said = refused(pipelines("flux"), tmp_path, method="lora", fsdp=2)
    assert said.setting == "--fsdp" and "--nproc_per_node 2" in str(said)
    monkeypatch.setattr(request, "refuse_other_count", lambda *_: None)
    said = refused(pipelines("stable_diffusion"), tmp_path, method="lora", fsdp=2)
    assert said.setting == "--fsdp" and "UNet" in str(said)


@pytest.mark.parametrize(("setting", "variables"), [
    ("accelerate launch", {"FSDP_VERSION": "1"}),
    ("accelerate launch", {}),
    ("--fsdp_offload_params", {"FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"}),
    ("--fsdp_reshard_after_forward", {"FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "false"}),
])  # fmt: skip
def test_other_ways_of_the_launcher_are_refused(setting, variables, pipelines, tmp_path, monkeypatch):
    for name, value in {"ACCELERATE_USE_FSDP": "true", **variables}.items():
        monkeypatch.setenv(name, value)
    assert refused(pipelines("flux"), tmp_path, method="lora").setting == setting


def test_the_launchers_words_are_settings(monkeypatch):
    words = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_ACTIVATION_CHECKPOINTING": "true", "WORLD_SIZE": "4"}
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    assert launcher_settings() == {("execution", "fsdp"): 4, ("loop", "gradient_checkpointing"): True}


@pytest.mark.parametrize("family", ["flux", "z_image"])
def test_the_plan_counts_the_share_that_a_process_has(family, root):
    whole, _ = held.learning(root / family, root / "one", Ranks(0, 1, torch.device("cpu")), method="lora")
    counted = CountedShards(whole.denoiser, 2, learns=False)
    frozen = sum(tensor.nbytes for tensor in counted.resident() if not tensor.requires_grad)
    assert frozen == facts(root / "two" / f"{family}, lora.safetensors")["frozen"]


def test_the_plan_counts_shares_of_what_learns_and_the_blocks_that_are_gathered(pipelines, tmp_path):
    """Where each process was said to hold everything, no plan fitted a model that needs several cards."""
    peaks, rehearsals = [], []
    for count in (None, 2):
        given = config(pipelines("z_image"), root=tmp_path, fsdp=count, skip_final_inference=False, **FULL, **BFLOAT16)
        rehearsals.append(Rehearsal(resolve(given, family_of(given.model)), on_cpu=False))
        peaks.append({phase.name: phase.peak.parts for phase in rehearsals[-1].phases()})
    plain, shared = peaks
    denoiser = rehearsals[0].family.denoiser
    sizes = [sum(p.nbytes for p in block.parameters()) for _, block in blocks_of(denoiser)]
    whole = sum(p.nbytes for p in denoiser.parameters())
    gathered = 2 * (max(sizes) + whole - sum(sizes))
    for part in ("weights", "optimizer"):
        assert shared["saving"][part] == pytest.approx(plain["saving"][part] / 2, rel=0.1)
    for phase in ("training", "previews", "class images"):
        assert shared[phase]["weights"] - shared["saving"]["weights"] == pytest.approx(gathered, abs=512)
    assert whole / 2 < shared["training"]["gradients"] < whole / 2 + gathered + max(sizes)
    assert shared["encoding"]["weights"] == shared["saving"]["weights"], "a share stays on its device"
    assert shared["training"]["activations"] < plain["training"]["activations"] * 1.05, "a whole weight is no activation"


def test_plan_is_asked_of_so_many_processes_by_the_same_flag(pipelines, capsys):
    flags = ["--method", "lora", "--resolution", "32", "--memory", "12GB", "--fsdp", "2"]
    assert main(["plan", str(pipelines("flux")), *flags, "--json"]) == 0
    two = json.loads(capsys.readouterr().out)
    assert main(["plan", str(pipelines("flux")), *flags[:-2], "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert two["processes"] == 2 and two["ram_gib"] == pytest.approx(2 * one["ram_gib"], abs=0.01)
    assert main(["plan", str(pipelines("stable_diffusion")), *flags]) == 2
    assert "--fsdp" in capsys.readouterr().err
    assert main(["plan", str(pipelines("flux")), *flags, "--group_offload", "--gradient_checkpointing"]) == 2
    assert "--group_offload" in capsys.readouterr().err


def test_fit_chooses_nothing_that_shares_refuse(pipelines, tmp_path):
    """It rehearses what it tries, and a refusal there would have ended it."""
    for method in ("full", "lora"):
        given = config(pipelines("flux"), root=tmp_path, method=method, fsdp=2)
        wanted, device = resolve(given, family_of(given.model)), torch.device("cuda")
        found = fitting(wanted, device, limit=1, plain=least_estimate(wanted, device, limit=1))
        assert found.levers and "--group_offload" not in found.flags
        assert method == "lora" or "--use_8bit_adam" not in found.flags
