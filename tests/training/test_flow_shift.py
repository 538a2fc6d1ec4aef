"""--flow_shift: which times of a flow are trained, as trainers of the field count them."""

import json
import shutil

import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from dreambooth.core.errors import SettingError
from dreambooth.run.train import train
from dreambooth.setup.model import flow_shift, training_schedule
from dreambooth.training.records import Message
from tests import tiny
from tests.training.runs import config, same_files, weights

FLOWS = ["flux", "flux2", "sd3", "z_image"]
DYNAMIC = ["flux", "flux2"]


def run(folder, tmp_path, name: str, **settings) -> list[str]:
    """Train two updates; what was said."""
    few = {"method": "lora", "max_train_steps": 2, "output_dir": str(tmp_path / name)}
    given = config(folder, root=tmp_path, **few | settings)
    return [record.text for record in train(given) if isinstance(record, Message)]


@pytest.mark.parametrize("name", FLOWS)
def test_left_out_a_flow_is_trained_at_its_schedulers_own_sigmas(name, pipelines, tmp_path):
    family = tiny.load(pipelines(name))
    given = config(pipelines(name), root=tmp_path)
    assert flow_shift(given, family) is None and training_schedule(given, family) is family.process


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("shift", [1.0, 2.2])
def test_a_number_is_the_whole_shift_and_not_one_on_top_of_the_models_own(name, shift, pipelines, tmp_path):
    family = tiny.load(pipelines(name))
    sigma = training_schedule(config(pipelines(name), root=tmp_path, flow_shift=shift), family).sigma
    assert sigma[500].item() == pytest.approx(shift * 0.5 / (1 + (shift - 1) * 0.5), abs=1e-6)
    assert bool((sigma.diff() < 0).all()) and sigma[0] == 1


@pytest.mark.parametrize("name", DYNAMIC)
@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_dynamic_is_what_the_scheduler_shifts_such_a_picture_by(name, resolution, pipelines, tmp_path):
    family = tiny.load(pipelines(name))
    scheduler, shape = family.pipe.scheduler, family.latent_shape(resolution, resolution)
    mu = calculate_shift(shape[1] * shape[2] // family.packing**2)
    scheduler.set_timesteps(sigmas=[1.0, 0.5, 0.1], mu=mu)
    shift = flow_shift(config(pipelines(name), root=tmp_path, flow_shift="dynamic", resolution=resolution), family)
    assert shift and (shift * 0.5 / (1 + (shift - 1) * 0.5)) == pytest.approx(scheduler.sigmas[1].item(), abs=1e-6)


def test_flux_at_1024_pixels_is_shifted_by_about_three(pipelines):
    assert tiny.load(pipelines("flux")).dynamic_shift(256, 256) == pytest.approx(3.158, abs=0.001), "4096 tokens"


@pytest.mark.parametrize(
    ("name", "shift", "words"),
    [
        ("stable_diffusion", 2.0, "Stable Diffusion"),
        ("sdxl", "dynamic", "Stable Diffusion XL"),
        ("sd3", "dynamic", "by 3"),
        ("z_image", "dynamic", "by 3"),
    ],
)
def test_where_a_shift_makes_no_sense_it_is_refused_before_anything_is_loaded(name, shift, words, pipelines, tmp_path):
    said: list[str] = []
    with pytest.raises(SettingError, match=words) as caught:
        said += run(pipelines(name), tmp_path, "run", flow_shift=shift)
    assert caught.value.setting == "--flow_shift" and caught.value.fix
    assert not said and not (tmp_path / "run").exists()


@pytest.mark.parametrize("shift", ["0", "-1", "1001", "static", "nan", ""])
def test_what_is_no_shift_is_refused(shift, pipelines, tmp_path):
    with pytest.raises(SettingError, match="--flow_shift"):
        config(pipelines("flux"), root=tmp_path, flow_shift=shift)


def test_the_shift_is_in_the_plan_and_in_the_run_and_goes_on_after_a_stop(pipelines, tmp_path):
    said = run(pipelines("flux"), tmp_path, "run", flow_shift="dynamic", checkpointing_steps=1)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert 1.5 < record["flow_shift"] < 1.7 and f"times shifted by {record['flow_shift']:.3g}" in "\n".join(said)
    assert "flow_shift: dynamic" in (tmp_path / "run" / "config.yaml").read_text()
    shutil.copytree(tmp_path / "run", tmp_path / "again")
    for path in (tmp_path / "again" / "checkpoint-2", tmp_path / "again" / "run.json"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run(pipelines("flux"), tmp_path, "again", flow_shift="dynamic", checkpointing_steps=1, resume_from_checkpoint="latest")
    same_files(weights(tmp_path / "run"), weights(tmp_path / "again"))
    with pytest.raises(SettingError, match="flow_shift"):
        run(pipelines("flux"), tmp_path, "again", flow_shift=2.0, max_train_steps=3, resume_from_checkpoint="latest")


def test_other_times_learn_other_weights_and_the_models_own_shift_the_same(pipelines, tmp_path):
    for name, more in (("left out", {}), ("own", {"flow_shift": 3}), ("other", {"flow_shift": 1})):
        run(pipelines("sd3"), tmp_path, name, **more)
    found = {name: (tmp_path / name / "pytorch_lora_weights.safetensors").read_bytes() for name in ("left out", "own", "other")}
    assert found["left out"] != found["other"]
    from safetensors.torch import load

    own, same = load(found["own"]), load(found["left out"])
    assert all(torch.allclose(value, same[name], atol=1e-5) for name, value in own.items())
