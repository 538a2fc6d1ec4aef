"""Who may read what is written: umask says so for every file, also for those that a library would keep to their owner."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from dreambooth.bench.delta import restore, write_delta
from dreambooth.files.atomic import whole_file, whole_folder
from dreambooth.files.entries import whole_entries
from dreambooth.files.images import save_png
from dreambooth.methods import LoRA
from dreambooth.photos.manifest import write
from dreambooth.run.train import train
from dreambooth.toybox.pretrain.loop import Budget, Run, Stage
from tests import tiny
from tests.training.runs import config, weights


@pytest.fixture(params=[0o022, 0o077, 0o002], ids="{:03o}".format)
def umask(request) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def unlike(folder: Path, umask: int) -> dict[str, str]:
    """What lies in a folder, and the folder itself, with other permissions than umask's."""
    wanted = {path: (0o777 if path.is_dir() else 0o666) & ~umask for path in [folder, *folder.rglob("*")]}
    return {str(path): oct(path.stat().st_mode) for path, mode in wanted.items() if path.stat().st_mode & 0o777 != mode}


WORD = {"identifier": None, "instance_prompt": None, "class_noun": "dog", "initializer_token": "dog", "with_prior_preservation": False}


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("full", {"class_data_dir": "class", "use_ema": True}),
        ("lora", {}),
        ("lokr", {}),
        ("textual_inversion", {**WORD, "class_prompt": None}),
        ("custom_diffusion", {**WORD, "class_prompt": None}),
    ],
)
def test_a_run_with_its_checkpoints_pictures_and_pages_is_readable_as_umask_says(pipelines, tmp_path, umask, method, given, monkeypatch):
    if umask == 0o002 and method != "full":
        pytest.skip("what differs between methods is the library that writes, not the mask")
    monkeypatch.chdir(tmp_path)
    given = {"max_train_steps": 2, "checkpointing_steps": 1, "skip_final_inference": False, "validation_inference_steps": 2, **given}
    for _ in train(config(pipelines("stable_diffusion"), root=tmp_path, output_dir=tmp_path / "run", method=method, **given)):
        pass
    written = {path.name for path in (tmp_path / "run").rglob("*")}
    assert {"checkpoint-2", "optimizer.safetensors", "contact_sheet.png", "report.html", "metrics.jsonl"} <= written
    assert weights(tmp_path / "run")
    assert not unlike(tmp_path / "run", umask)
    assert not (tmp_path / "class").exists() or not unlike(tmp_path / "class", umask)


def test_private_files_in_folders_of_any_depth_become_readable(tmp_path, umask):
    def fill(folder: Path) -> None:
        (folder / "unet" / "deep").mkdir(parents=True)
        for path in (folder / "model.safetensors", folder / "unet" / "deep" / "weights.bin"):
            path.write_bytes(b"1")
            path.chmod(0o600)
        (folder / "unet").chmod(0o700)

    for block, place in ((whole_folder, tmp_path / "whole"), (whole_folder, tmp_path / "whole"), (whole_entries, tmp_path / "entries")):
        with block(place) as partial:
            fill(partial)
        assert (place / "unet" / "deep" / "weights.bin").is_file() and not unlike(place, umask)


def test_a_file_that_a_library_has_replaced_becomes_readable(tmp_path, umask):
    with whole_file(tmp_path / "new" / "weights.safetensors") as partial:
        partial.unlink()
        partial.write_bytes(b"1")
        partial.chmod(0o600)
    save_png(tmp_path / "new" / "picture.png", Image.new("RGB", (4, 4)), {})
    write(tmp_path / "new", "preview/copy.png", b"1", {})
    assert len(list((tmp_path / "new").rglob("*"))) == 4 and not unlike(tmp_path / "new", umask)


def test_a_link_is_left_alone_with_what_it_leads_to(tmp_path):
    (tmp_path / "secret").write_text("not ours")
    (tmp_path / "secret").chmod(0o600)
    with whole_folder(tmp_path / "run") as partial:
        (partial / "link").symlink_to(tmp_path / "secret")
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_a_restored_pipeline_is_readable(pipelines, tmp_path, umask):
    run = tmp_path / "run"
    for _ in train(config(pipelines("stable_diffusion"), root=tmp_path, output_dir=run, max_train_steps=1)):
        pass
    (tmp_path / "kept").mkdir()
    write_delta(run, tmp_path / "kept", rank=2)
    assert not unlike(restore(tmp_path / "kept", tmp_path / "again"), umask)


def test_what_the_toyboxs_pretraining_exports_is_readable(tmp_path, umask):
    class Lone(Stage):
        name, rate, weight_decay = "vae", 1e-3, 0.0

        def loss(self, rng, done):
            raise NotImplementedError

        def modules(self):
            return {"all": (torch.nn.Linear(1, 1), 1.0)}

        def export(self, folder: Path) -> dict[str, float]:
            tiny.vae().save_pretrained(folder / "pipeline" / "vae")
            return {}

    Run(Lone(), tmp_path / "work", Budget(), 0, 1).export()
    assert not unlike(tmp_path / "work", umask)


def test_a_lora_saved_alone_is_readable(pipelines, tmp_path, umask):
    family = tiny.load(pipelines("sdxl"))
    with whole_entries(tmp_path / "lora") as partial:
        LoRA(rank=1).attach(family, ["unet"], seed=0).save(partial, whole=True)
    assert not unlike(tmp_path / "lora", umask)
