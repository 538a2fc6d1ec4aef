"""Memory does not grow with the photos: no verb holds more than three decoded (one in work, its mask, the one before it)."""

import hashlib
import os
import weakref

import pytest
import torch
from PIL import Image

import dreambooth.photos.load as photos_load
from dreambooth.evaluation import EvaluateConfig, evaluate
from dreambooth.files.images import contact_sheet, fit
from dreambooth.metrics.encoders import EncoderSettings
from dreambooth.photos import photo
from dreambooth.photos.check import PhotosCheck, check
from dreambooth.photos.load import PhotoFile, load
from dreambooth.photos.prepare import PhotosPrepare, prepare
from dreambooth.reporting.page import report
from dreambooth.run.train import train
from dreambooth.setup.given import from_arguments
from tests import tiny
from tests.training.runs import config


@pytest.fixture
def held(monkeypatch):
    """How many photos were decoded, and how many were there at once in full size (a thumbnail is made in the place of its photo)."""
    seen = {"most": 0, "decoded": 0}
    there: list[tuple[weakref.ref, tuple[int, int]]] = []
    decode = photos_load._decode

    def counted(*given):
        image, facts = decode(*given)
        there.append((weakref.ref(image), image.size))
        seen["decoded"] += 1
        seen["most"] = max(seen["most"], sum((picture := one()) is not None and picture.size == size for one, size in there))
        return image, facts

    monkeypatch.setattr(photos_load, "_decode", counted)
    return seen


def test_no_verb_holds_more_than_three_pictures_decoded(pipelines, encoder_flags, tmp_path, held):
    folder, klass, masks = (tiny.photos(tmp_path / name, count=9, size=(500, 400)) for name in ("many", "class", "masks"))
    settings = {
        "instance_data_dir": str(folder), "class_data_dir": str(klass), "num_class_images": 9, "class_noun": "dog", "max_train_steps": 2,
        "evaluate_every": 1, "evaluation_share": 0.99, "validation_inference_steps": 1, "skip_final_inference": False,
        "masked_loss": True, "mask_dir": str(masks), "num_validation_images": 4,
    }  # fmt: skip
    list(train(config(pipelines("stable_diffusion"), root=tmp_path, output_dir=str(tmp_path / "run"), **settings, **encoder_flags)))
    few = {"num_images": 4, "num_prompts": 1, "class_samples": 1, "num_inference_steps": 1}
    list(evaluate(from_arguments(EvaluateConfig, {"run": str(tmp_path / "run"), **encoder_flags, **few})))
    report(tmp_path / "run")
    check(PhotosCheck(folder=str(folder), resolution=16, sheet=str(tmp_path / "sheet.png")))
    prepare(PhotosPrepare(folder=str(folder), out=str(tmp_path / "clean"), resolution=16))
    assert held["decoded"] > 60 and held["most"] <= 3


@pytest.fixture
def digests(monkeypatch):
    """The lengths of all that SHA-256 was asked about, by whatever way: bytes at once, or an open file."""
    lengths: list[int] = []
    of_bytes, of_file = hashlib.sha256, hashlib.file_digest

    def counted(data=b"", **given):
        lengths.append(len(data))
        return of_bytes(data, **given)

    def counted_file(file, name):
        lengths.append(os.fstat(file.fileno()).st_size)
        return of_file(file, name)

    monkeypatch.setattr(hashlib, "sha256", counted)
    monkeypatch.setattr(hashlib, "file_digest", counted_file)
    return lengths


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("resolution", [16, None])
def test_a_training_and_its_report_decode_each_photo_once_and_take_one_digest_of_it(pipelines, tmp_path, held, digests, masked, resolution):
    folder = tiny.photos(tmp_path / "many", count=15, size=(40, 30))
    if masked:
        for photo in folder.glob("*.png"):
            picture = Image.open(photo).convert("RGBA")
            picture.putalpha(Image.radial_gradient("L").resize(picture.size))
            picture.save(photo)
    settings = {
        "instance_data_dir": str(folder), "max_train_steps": 1, "with_prior_preservation": False, "masked_loss": masked,
        "center_crop": False, "resolution": resolution, "num_validation_images": 1,
    }  # fmt: skip
    list(train(config(pipelines("stable_diffusion"), root=tmp_path, output_dir=tmp_path / "run", **settings)))
    assert held["decoded"] == 15
    sizes = [path.stat().st_size for path in folder.glob("*.png")]
    assert {size: digests.count(size) for size in sizes} == {size: sizes.count(size) for size in sizes}
    assert (tmp_path / "run" / "report.html").read_text().count("data:image/png") >= 12


def test_photos_beyond_what_is_kept_are_read_again_and_learned_alike(pipelines, tmp_path, monkeypatch, held):
    folder = tiny.photos(tmp_path / "many", count=4, size=(40, 30))
    settings = {"instance_data_dir": str(folder), "max_train_steps": 2, "with_prior_preservation": False, "center_crop": False}
    weights, decoded = [], []
    for room in (photo.KEPT_BYTES, 2 * 3 * 21 * 16):
        monkeypatch.setattr(photo, "KEPT_BYTES", room)
        run = tmp_path / str(room)
        list(train(config(pipelines("stable_diffusion"), root=tmp_path, output_dir=run, method="lora", **settings)))
        weights.append((run / "pytorch_lora_weights.safetensors").read_bytes())
        decoded.append(held["decoded"])
    assert weights[0] == weights[1] and decoded == [4, 4 + 4 + 2]


def test_sheets_and_scores_of_photos_on_the_disk_are_those_of_decoded_ones(encoder_flags, tmp_path):
    files = [PhotoFile(path) for path in sorted(tiny.photos(tmp_path / "p", size=(400, 300)).iterdir())]
    decoded = [load(file.path) for file in files]
    encoders = [EncoderSettings(**encoder_flags).load(device=torch.device("cpu")) for _ in range(2)]
    for name in ("dino", "clip"):
        assert torch.equal(getattr(encoders[0], name)(files), getattr(encoders[1], name)(decoded))
    sheets = [contact_sheet([("photos", pictures)]).tobytes() for pictures in (decoded, [fit(file.read()) for file in files])]
    assert sheets[0] == sheets[1]
