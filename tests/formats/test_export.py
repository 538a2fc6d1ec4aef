"""Results as files of other programs: every cell that claims to be exact draws the run's own pictures after the round trip."""

import json

import pytest
import torch
from safetensors.torch import load_file

import dreambooth
from dreambooth.run.export import ExportConfig, Exported, export
from dreambooth.run.train import train
from dreambooth.setup.open import open_model, read_config
from tests import tiny
from tests.training.runs import config

METHODS = {
    "lora": {"method": "lora", "rank": 3, "lora_alpha": 2.0}, "dora": {"method": "lora", "rank": 2, "use_dora": True},
    "loha": {"method": "loha", "rank": 2, "lora_alpha": 3.0}, "lokr": {"method": "lokr", "rank": 1, "lora_alpha": 2.0},
    "lokr of whole factors": {"method": "lokr", "rank": 64, "lora_alpha": 32.0, "decompose_factor": 2, "learning_rate": 0.5},
    "oft": {"method": "oft", "oft_blocks": 2, "learning_rate": 0.3},
}  # fmt: skip
CELLS = [
    *((base, "lora", format) for base in ("stable_diffusion", "sdxl", "flux", "sd3") for format in ("comfy", "kohya")),
    *((base, "lora", "comfy") for base in ("flux2", "z_image")),
    ("sdxl", "dora", "comfy"), ("stable_diffusion", "dora", "kohya"), ("flux", "dora", "comfy"),
    ("stable_diffusion", "loha", "comfy"), ("z_image", "loha", "comfy"), ("sdxl", "lokr", "comfy"), ("sd3", "lokr", "comfy"),
    ("stable_diffusion", "lokr of whole factors", "kohya"), ("flux2", "lokr of whole factors", "comfy"),
    ("stable_diffusion", "oft", "comfy"), ("flux", "oft", "comfy"),
]  # fmt: skip


def exported(run, format: str, **settings) -> Exported:
    last = [record for record in export(ExportConfig(run=str(run), format=format, **settings)) if isinstance(record, Exported)]
    return last[-1]


def far_from_untuned(run) -> bool:
    """Whether a run's picture is so far from its base model's that an export without effect would be seen."""
    tuned, base = open_model(str(run)), tiny.load(read_config(run).model.pretrained_model_name_or_path)
    return bool((tiny.picture(tuned.family.pipe) - tiny.picture(base.pipe)).abs().max() > 8 / 255)


@pytest.mark.parametrize(("base", "method", "format"), CELLS)
def test_a_small_file_read_back_draws_what_the_run_draws(learned, base, method, format, tmp_path):
    text = {"train_text_encoder": True} if method in ("lora", "dora", "loha") and base not in ("flux2", "z_image") else {}
    run = learned(base, **METHODS[method], **text)
    assert far_from_untuned(run)
    done = exported(run, format, output=str(tmp_path / "file.safetensors"))
    assert done.record["compared"]["max_difference"] <= 1 and done.path.is_file()
    kept = json.loads((run / "export" / f"{format}.json").read_text())
    assert kept["sha256"] and kept["layers"] == done.record["layers"]


@pytest.mark.parametrize(("base", "method"), [("stable_diffusion", "lora"), ("sdxl", "dora"), ("flux", "oft"), ("z_image", "loha")])
def test_a_pipeline_holds_what_small_weights_do(learned, base, method, tmp_path):
    run = learned(base, **METHODS[method])
    done = exported(run, "pipeline", output=str(tmp_path / "whole"))
    assert done.record["compared"]["max_difference"] <= 1
    assert not any("lora" in path.name or "adapter" in path.name for path in (tmp_path / "whole").rglob("*"))


SINGLE = [("sd_shaped", {"method": "full"}), ("sdxl_shaped", METHODS["lora"]), ("v_prediction", {"method": "full"})]


@pytest.mark.parametrize(("base", "settings"), SINGLE)
def test_a_single_file_read_back_by_diffusers_draws_what_the_run_draws(learned, base, settings, tmp_path):
    rate = {} if settings["method"] == "lora" else {"learning_rate": 1e-3}
    run = learned(base, **settings, **rate, resolution=64, train_text_encoder=True)
    assert far_from_untuned(run)
    done = exported(run, "single_file", output=str(tmp_path / "model.safetensors"))
    assert done.record["compared"]["max_difference"] <= 1


@pytest.mark.parametrize("base", ["stable_diffusion", "sdxl", "flux"])
def test_a_new_word_read_back_draws_what_the_run_draws(learned, base):
    run = learned(base, method="textual_inversion", num_vectors=2, class_noun="dog", instance_prompt=None, identifier=None)
    done = exported(run, "embedding")
    assert done.record["compared"]["max_difference"] <= 1
    assert done.path == run / "export" / "embedding" / "my-dog.safetensors"
    assert ("<my-dog>" in load_file(done.path)) == (base == "stable_diffusion")


def test_a_full_runs_difference_of_full_rank_is_all_that_is_a_matrix(learned, tmp_path):
    run = learned("stable_diffusion", method="full", learning_rate=3e-3)
    whole, small = (exported(run, "lora", rank=rank, output=str(tmp_path / f"{rank}.safetensors")) for rank in (1000, 1))
    assert all(share == 1.0 or share == 0.0 for share in whole.record["kept"].values())
    assert 0 < sum(small.record["kept"].values()) < sum(whole.record["kept"].values())
    kept = whole.record["kept"]
    assert kept["unet.conv_in"] == 1.0 and kept["unet.conv_in.bias"] == 0.0 and kept["unet.conv_norm_out"] == 0.0
    assert whole.record["compared"]["max_difference"] < small.record["compared"]["max_difference"]


def test_a_base_in_half_precision_stays_so_and_its_rounding_is_said(learned, shaped, tmp_path, capsys):
    """A base of fp16 files: a merged checkpoint is rounded as they are, and that is no fault."""
    pipe = tiny.load(shaped("sd_shaped")).pipe
    pipe.unet.half().save_pretrained(tmp_path / "base" / "unet")
    pipe.unet.float()
    pipe.save_pretrained(tmp_path / "base")
    pipe.unet.half().save_pretrained(tmp_path / "base" / "unet")
    settings = {"method": "lora", "max_train_steps": 2, "learning_rate": 3e-2, "with_prior_preservation": False, "class_prompt": None}
    for _ in train(config(tmp_path / "base", root=tmp_path, output_dir=tmp_path / "run", resolution=64, **settings)):
        pass
    done = exported(tmp_path / "run", "single_file")
    kinds = {name.partition(".")[0]: value.dtype for name, value in load_file(done.path).items()}
    assert kinds["model"] == torch.float16 and kinds["first_stage_model"] == torch.float32
    assert any("rounded to half precision" in line for line in done.lines)


def test_a_run_is_exported_from_python(learned):
    run = dreambooth.open_run(learned("stable_diffusion", **METHODS["lora"], train_text_encoder=True))
    assert run.export("kohya", overwrite=True, compare=False).is_file()


@pytest.mark.parametrize(
    ("base", "settings", "lines"),
    [
        ("sdxl", METHODS["lora"], ["--as comfy`: ComfyUI, A1111 and Forge", "--as single_file`: ComfyUI"]),
        ("flux2", METHODS["lora"], ["--as comfy`: ComfyUI, diffusers", "--as pipeline`: diffusers"]),
    ],
)  # fmt: skip
def test_a_runs_card_says_what_opens_where(learned, base, settings, lines):
    card = (learned(base, **settings) / "README.md").read_text()
    assert all(line in card for line in lines) and ("--as single_file" in card) == (base == "sdxl")
