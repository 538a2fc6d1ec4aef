"""The main job from end to end on tiny pipelines: what a run leaves, and that pictures are drawn from it again."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from diffusers import DiffusionPipeline
from PIL import Image

import dreambooth
from dreambooth.cli import main
from dreambooth.core.errors import SettingError
from dreambooth.files.images import read_settings
from dreambooth.methods import Learner, Method
from dreambooth.methods.full import WholeParts
from dreambooth.setup.given import train_config
from dreambooth.training.records import Done, Message, Preview, Progress, Saved, Step
from tests.training.runs import SETTINGS, config, weights

FAMILIES = ("stable_diffusion", "v_prediction", "sdxl", "flux")


def arrays(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png")) if path.name != "contact_sheet.png"]


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_pictures_of_generate_are_the_previews_of_the_training(family, method, pipelines, tmp_path):
    settings = {"method": method, "validation_prompt": "a [V] dog on the beach", "validation_steps": 2, "validation_inference_steps": 2}
    run = tmp_path / "run"
    wanted = config(pipelines(family), root=tmp_path, max_train_steps=2, num_validation_images=2, output_dir=run, **settings)
    for _ in dreambooth.stream.train(wanted):
        pass
    assert main(["generate", str(run), "a [V] dog on the beach", "--num_images", "2"]) == 0
    previews, later = arrays(run / "samples" / "step-000002"), arrays(run / "samples" / "generated")
    assert len(previews) == len(later) == 2
    assert all(np.array_equal(a, b) for a, b in zip(previews, later, strict=True))
    assert read_settings(next((run / "samples" / "generated").glob("00-*")))["prompt"] == "a sks dog on the beach"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_folder_of_a_full_run_is_a_pipeline_that_diffusers_loads(family, pipelines, tmp_path):
    for _ in dreambooth.stream.train(config(pipelines(family), root=tmp_path, max_train_steps=1, output_dir=tmp_path / "run")):
        pass
    pipe = DiffusionPipeline.from_pretrained(tmp_path / "run", dtype=torch.float32)
    base = DiffusionPipeline.from_pretrained(pipelines(family), dtype=torch.float32)
    assert type(pipe) is type(base)
    name = "transformer" if family == "flux" else "unet"
    changed = [not torch.equal(a, b) for a, b in zip(getattr(pipe, name).parameters(), getattr(base, name).parameters(), strict=True)]
    assert all(changed[:3])
    assert all(torch.equal(a, b) for a, b in zip(pipe.vae.parameters(), base.vae.parameters(), strict=True))


def test_a_run_records_where_it_comes_from(pipelines, tmp_path):
    records = list(
        dreambooth.stream.train(config(pipelines("stable_diffusion"), root=tmp_path, max_train_steps=2, output_dir=tmp_path / "run"))
    )
    assert {type(record) for record in records} >= {Message, Progress, Step, Saved, Done}
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["state"] == "finished" and record["step"] == 2 and record["seed"] == 1
    assert len(record["photos"]) == 4 and all(len(photo["sha256"]) == 64 for photo in record["photos"])
    assert len(record["base_model"]["sha256"]) == 64 and record["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    tree = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert tree["optimization"]["learning_rate"] == 1e-3 and tree["method"] == {"kind": "full"} and "hub_token" not in tree["output"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 2 and lines[-1].keys() >= {
        "loss",
        "loss_subject",
        "loss_prior",
        "grad_norm",
        "learning_rate",
        "images_per_second",
    }
    head = yaml.safe_load((tmp_path / "run" / "README.md").read_text().split("---")[1])
    assert head["instance_prompt"] == "a sks dog" and "base_model" not in head, "a folder of this machine is none on the Hub"


def test_python_says_it_in_two_lines(pipelines, tmp_path, photos):
    seen = []
    few = {"max_train_steps": 1, "num_class_images": 2, "prior_inference_steps": 1, "validation_inference_steps": 1}
    run = dreambooth.train(
        instance_data_dir=photos, class_noun="dog", identifier="sks", pretrained_model_name_or_path=pipelines("stable_diffusion"),
        resolution=16, num_validation_images=1, output_dir=tmp_path / "run", seed=0, on_record=seen.append, **few,
    )  # fmt: skip
    images = run.generate("a [V] dog on the beach", num_images=2, output_dir=tmp_path / "drawn")
    assert len(images) == 2 and images[0].size == (16, 16)
    assert any(isinstance(record, Preview) for record in seen)
    assert (tmp_path / "run" / "contact_sheet.png").is_file()
    with pytest.raises(dreambooth.SettingError, match=r"num_imagse: there is no such setting\. Did you mean num_images"):
        run.generate("a dog", num_imagse=2)


def test_a_pipeline_with_a_lora_draws_what_the_run_draws(pipelines, tmp_path):
    run = tmp_path / "run"
    wanted = config(pipelines("stable_diffusion"), root=tmp_path, max_train_steps=2, method="lora", output_dir=run, learning_rate=1e-2)
    for _ in dreambooth.stream.train(wanted):
        pass
    same = ["--num_images", "1", "--num_inference_steps", "2", "--height", "16"]
    assert main(["generate", str(run), "a sks dog", *same, "--output_dir", str(tmp_path / "a")]) == 0
    base = str(pipelines("stable_diffusion"))
    assert main(["generate", base, "a sks dog", "--lora", str(run), *same, "--output_dir", str(tmp_path / "b")]) == 0
    assert main(["generate", base, "a sks dog", *same, "--output_dir", str(tmp_path / "c")]) == 0
    (a,), (b,), (c,) = (arrays(tmp_path / name) for name in "abc")
    assert np.array_equal(a, b) and not np.array_equal(a, c)


@pytest.mark.parametrize("family", ["stable_diffusion", "sdxl"])
def test_a_lora_in_kohyas_names_draws_the_same_picture(family, pipelines, tmp_path):
    run = tmp_path / "run"
    settings = {"method": "lora", "lora_alpha": 2.0, "train_text_encoder": True, "output_kohya_format": True, "learning_rate": 1e-2}
    for _ in dreambooth.stream.train(config(pipelines(family), root=tmp_path, max_train_steps=2, output_dir=run, **settings)):
        pass
    same = ["--num_images", "1", "--num_inference_steps", "2", "--height", "16"]
    for name in ("pytorch_lora_weights.safetensors", "pytorch_lora_weights_kohya.safetensors"):
        assert (
            main(["generate", str(pipelines(family)), "a sks dog", "--lora", str(run / name), *same, "--output_dir", str(tmp_path / name)])
            == 0
        )
    (ours,), (kohya,) = (arrays(tmp_path / f"pytorch_lora_weights{end}.safetensors") for end in ("", "_kohya"))
    assert np.abs(ours.astype(int) - kohya.astype(int)).max() <= 1


def test_the_average_is_what_a_run_with_ema_leaves(pipelines, tmp_path):
    base = {"model": pipelines("stable_diffusion"), "root": tmp_path, "max_train_steps": 3}
    for name, extra in (("plain", {}), ("average", {"use_ema": True})):
        for _ in dreambooth.stream.train(config(**base, **extra, output_dir=tmp_path / name, checkpointing_steps=3)):
            pass
    from safetensors.torch import load_file

    place = "unet/diffusion_pytorch_model.safetensors"
    plain, average = (load_file(tmp_path / name / place) for name in ("plain", "average"))
    kept = load_file(tmp_path / "average" / "checkpoint-3" / place)
    assert all(torch.equal(average[key], kept[key]) for key in average)
    assert any(not torch.equal(average[key], plain[key]) for key in average)


class LastLayer(Method):
    """Only the denoiser's last layer learns."""

    kind: str = "mine"
    loudness: float = 1.0
    """A setting of its own."""

    def attach(self, family, parts, *, seed) -> Learner:
        family.denoiser.conv_out.requires_grad_(True)
        return WholeParts(family, parts)

    @property
    def trains_whole_parts(self) -> bool:
        return True


def test_a_users_own_method_is_named_by_its_class_and_has_flags(pipelines, tmp_path):
    reference = "tests.run.test_train:LastLayer"
    wanted = train_config(**{**SETTINGS, "pretrained_model_name_or_path": str(pipelines("stable_diffusion"))}, method=reference, loudness=2)
    assert wanted.method.loudness == 2.0 and wanted.method.kind == reference
    run = tmp_path / "run"
    flags = [f"--{name}={value}" for name, value in SETTINGS.items() if value is not True]
    folder = str(config(pipelines("stable_diffusion"), root=tmp_path).photos.instance_data_dir)
    model = ["--pretrained_model_name_or_path", str(pipelines("stable_diffusion")), "--instance_data_dir", folder]
    assert main(["train", *model, *flags, "--method", reference, "--loudness", "3", "--max_train_steps", "1", "--output_dir", str(run),
                 "--skip_final_inference", "--with_prior_preservation"]) == 0  # fmt: skip
    assert yaml.safe_load((run / "config.yaml").read_text())["method"] == {"kind": reference, "loudness": 3.0}
    assert main(["generate", str(run), "a sks dog", "--num_images", "1", "--num_inference_steps", "1"]) == 0


def test_a_checkpoint_of_a_run_is_a_model_to_draw_with(pipelines, tmp_path):
    run = tmp_path / "run"
    wanted = config(
        pipelines("stable_diffusion"), root=tmp_path, max_train_steps=4, checkpointing_steps=2, checkpoints_total_limit=1, output_dir=run
    )
    for _ in dreambooth.stream.train(wanted):
        pass
    assert sorted(path.name for path in run.glob("checkpoint-*")) == ["checkpoint-4"]
    for name in ("run", "run/checkpoint-4"):
        assert main(["generate", str(tmp_path / name), "a [V] dog", "--num_images", "1", "--num_inference_steps", "2",
                     "--output_dir", str(tmp_path / "drawn" / name)]) == 0  # fmt: skip
    (a,), (b,) = arrays(tmp_path / "drawn" / "run"), arrays(tmp_path / "drawn" / "run" / "checkpoint-4")
    assert np.array_equal(a, b)


def test_bf16_and_fp16_train_float32_weights(pipelines, tmp_path):
    from safetensors.torch import load_file

    for precision in ("bf16", "fp16"):
        run = tmp_path / precision
        for _ in dreambooth.stream.train(
            config(pipelines("stable_diffusion"), root=tmp_path, max_train_steps=2, mixed_precision=precision, output_dir=run)
        ):
            pass
        tensors = load_file(weights(run)["unet/diffusion_pytorch_model.safetensors"])
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_an_adapter_of_a_run_in_half_precision_is_also_drawn_in_full(pipelines, tmp_path):
    settings = {"method": "lora", "mixed_precision": "bf16", "max_train_steps": 1, "output_dir": tmp_path / "run"}
    for _ in dreambooth.stream.train(config(pipelines("stable_diffusion"), root=tmp_path, **settings)):
        pass
    run = dreambooth.open_run(tmp_path / "run")
    for precision in ("bf16", "no", None):
        (picture,) = run.generate("a [V] dog", num_images=1, num_inference_steps=2, mixed_precision=precision)
        assert np.asarray(picture).std() > 0


def test_class_images_in_full_precision_are_the_unrounded_models_whatever_the_training_is_in(pipelines, tmp_path):
    """Their weights had been rounded for the training before they drew, which failed outright."""
    settings = {"method": "lora", "max_train_steps": 1, "prior_generation_precision": "fp32"}
    for precision in ("no", "bf16"):
        given = {
            **settings,
            "mixed_precision": precision,
            "class_data_dir": tmp_path / precision,
            "output_dir": tmp_path / f"run-{precision}",
        }
        for _ in dreambooth.stream.train(config(pipelines("stable_diffusion"), root=tmp_path, **given)):
            pass
    plain, half = arrays(tmp_path / "no"), arrays(tmp_path / "bf16")
    assert len(plain) == len(half) == 3 and all(np.array_equal(a, b) for a, b in zip(plain, half, strict=True))


def test_a_lora_on_top_of_a_runs_own_acts_beside_it(pipelines, tmp_path):
    """diffusers makes the one that it loads the only one: the run's own was gone."""
    runs = {}
    for name, rate in (("strong", 0.05), ("weak", 1e-9)):
        runs[name] = tmp_path / name
        given = {"method": "lora", "rank": 4, "learning_rate": rate, "max_train_steps": 3, "output_dir": runs[name]}
        for _ in dreambooth.stream.train(config(pipelines("stable_diffusion"), root=tmp_path, **given)):
            pass
    run, base = dreambooth.open_run(runs["strong"]), dreambooth.open_run(pipelines("stable_diffusion"))
    how = {"num_images": 1, "num_inference_steps": 2, "height": 16, "guidance_scale": 7.5, "mixed_precision": "no",
           "output_dir": str(tmp_path / "drawn")}  # fmt: skip

    def drawn(model, **more) -> np.ndarray:
        return np.asarray(model.generate("a sks dog", **how, **more)[0]).astype(int)

    own, both, untuned = drawn(run), drawn(run, lora=str(runs["weak"])), drawn(base)
    assert abs(own - untuned).max() > 10 and abs(both - own).max() <= 1
    assert abs(drawn(run) - own).max() == 0, "and the next picture is without it"


def test_a_run_without_its_text_encoder_is_opened_with_the_base_models(pipelines, tmp_path, capsys):
    run = tmp_path / "run"
    wanted = config(pipelines("stable_diffusion"), root=tmp_path, max_train_steps=1, skip_save_text_encoder=True, output_dir=run)
    for _ in dreambooth.stream.train(wanted):
        pass
    assert not (run / "text_encoder").exists()
    assert main(["generate", str(run), "a [V] dog", "--num_images", "1", "--num_inference_steps", "2"]) == 0
    code = (run / "README.md").read_text().split("```python")[1].split("```")[0]
    assert "text_encoder=base.text_encoder" in code
    names: dict = {}
    exec(code.split("image =")[0].replace('"."', f'"{run}"'), names)
    assert names["pipe"].text_encoder is names["base"].text_encoder


def test_flux_is_drawn_at_the_guidance_of_its_own_pipeline(pipelines, tmp_path):
    from dreambooth.families import Flux
    from dreambooth.run.generate import GenerateConfig, sampling_of
    from dreambooth.setup.config import resolve
    from dreambooth.setup.open import open_model

    for preset in ("recipe", "diffusers"):
        found = resolve(config(pipelines("flux"), root=tmp_path, preset=preset), Flux)
        assert (found.prior.prior_guidance_scale, found.validation.validation_guidance_scale) == (3.5, 3.5)
    opened = open_model(str(pipelines("flux")))
    assert sampling_of(GenerateConfig.parse({"run": "x"}), opened).guidance_scale == 3.5
    assert sampling_of(GenerateConfig.parse({"run": "x", "sampling": {"guidance_scale": 7.5}}), opened).guidance_scale == 7.5


def test_gradient_checkpointing_changes_nothing_but_memory(pipelines, tmp_path):
    from safetensors.torch import load_file

    results = []
    for flag in (False, True):
        run = tmp_path / str(flag)
        settings = {"gradient_checkpointing": flag, "train_text_encoder": True, "adam_epsilon": 1.0}
        for _ in dreambooth.stream.train(
            config(pipelines("stable_diffusion"), root=tmp_path, max_train_steps=2, output_dir=run, **settings)
        ):
            pass
        results.append({name: load_file(path) for name, path in weights(run).items()})
    plain, lean = results
    assert all(torch.allclose(plain[file][key], lean[file][key], atol=1e-7) for file in plain for key in plain[file])


def test_wandb_takes_the_same_numbers(pipelines, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tmp_path / "run"
    for _ in dreambooth.stream.train(
        config(pipelines("stable_diffusion"), root=tmp_path, max_train_steps=2, output_dir=run, report_to=["wandb"])
    ):
        pass
    assert list((run / "logs").rglob("*.wandb"))


class Hub:
    """Stands in for the Hub: keeps what it is asked, and knows one token."""

    calls: ClassVar[list] = []

    def __init__(self, token=None):
        self.token = token

    def whoami(self):
        if self.token != "hf_secret":
            raise huggingface_hub.errors.LocalTokenNotFoundError("no token")

    def create_repo(self, name, **options):
        self.calls.append((name, options["private"]))
        return huggingface_hub.RepoUrl(f"https://huggingface.co/somebody/{name}")

    def create_commit(self, repo_id, operations, **_):
        self.calls.append((repo_id, {add.path_in_repo: add.path_or_fileobj for add in operations}))
        return huggingface_hub.CommitInfo(
            commit_url=f"https://huggingface.co/{repo_id}/commit/1", commit_message="", commit_description="", oid="1"
        )


@pytest.mark.parametrize("method", ["lora", "loha", "full"])
def test_the_result_goes_to_the_hub_and_neither_photos_nor_paths_nor_the_token(pipelines, tmp_path, monkeypatch, method):
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(Hub, "calls", [])
    run, base = tmp_path / "run", pipelines("stable_diffusion")
    settings = {"push_to_hub": True, "hub_token": "hf_secret", "hub_model_id": "my-dog", "hub_private": True, "method": method}
    settings |= {"skip_final_inference": False, "num_validation_images": 1, "validation_inference_steps": 1, "train_text_encoder": True}
    run.mkdir()
    (run / "caption.txt").write_text("lies here by chance")
    for _ in dreambooth.stream.train(config(base, root=tmp_path, max_train_steps=1, checkpointing_steps=1, output_dir=run, **settings)):
        pass
    created, (name, files) = Hub.calls
    assert created == ("my-dog", True) and name == "somebody/my-dog"
    tops = {"lora": {f"pytorch_lora_weights{end}.safetensors" for end in ("", "_kohya")}, "loha": {"unet", "text_encoder"}}
    parts = {"model_index.json", "unet", "vae", "text_encoder", "tokenizer", "scheduler"}
    assert {file.split("/")[0] for file in files} == {"README.md", "samples", *tops.get(method, parts)}
    assert all(file.startswith("samples/final/") for file in files if file.startswith("samples"))
    content = {file: Path(data).read_bytes() if isinstance(data, str) else data for file, data in files.items()}
    assert b"instance_prompt: a sks dog" in content["README.md"]
    assert not [file for file, data in content.items() if str(tmp_path).encode() in data or str(base).encode() in data]
    texts = [path.read_bytes() for path in run.rglob("*") if path.is_file()]
    assert not any(b"hf_secret" in text for text in texts)


@pytest.mark.parametrize(("given", "printed"), [({"hub_model_id": "my dog"}, "--hub_model_id"), ({"hub_token": "other"}, "--push_to_hub")])
def test_what_the_hub_would_refuse_is_reported_before_the_training(pipelines, tmp_path, monkeypatch, given, printed):
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    wanted = {"push_to_hub": True, "hub_token": "hf_secret", "hub_model_id": "my-dog", **given}
    with pytest.raises(SettingError, match=printed):
        list(dreambooth.stream.train(config(pipelines("stable_diffusion"), root=tmp_path, output_dir=tmp_path / "run", **wanted)))
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_second_generate_leaves_the_first_ones_pictures(pipelines, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = dreambooth.open_run(pipelines("stable_diffusion"))
    settings = {"num_images": 1, "num_inference_steps": 1, "height": 16}
    for prompt in ("a dog", "a cat"):
        model.generate(prompt, **settings)
    found = {path.name: read_settings(path)["prompt"] for path in Path("generated").glob("*-seed0.png")}
    assert found == {"00-seed0.png": "a dog", "01-seed0.png": "a cat"}
    assert {path.name for path in Path("generated").glob("contact*")} == {"contact_sheet.png", "contact_sheet-01.png"}


def test_help_is_quick_because_heavy_libraries_wait():
    code = "import sys, dreambooth.cli as c; c.main(['--help']); assert not {'torch', 'diffusers', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    code = (
        "import sys, dreambooth.cli as c; c.main(['train', '--help']); assert not {'diffusers', 'transformers', 'peft'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert "--instance_data_dir" in done.stdout and "--rank" in done.stdout
