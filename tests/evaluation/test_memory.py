"""Memory does not grow with the photos: no verb holds more than three decoded (one in work, its mask, the one before it)."""

import weakref

import pytest
import torch

import dreambooth.photos.load as photos_load
from dreambooth.evaluation import EvaluateConfig, evaluate
from dreambooth.files.images import contact_sheet, fit
from dreambooth.metrics.encoders import EncoderSettings
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


def test_a_training_decodes_a_photo_for_the_check_for_its_cuts_and_for_the_report(pipelines, tmp_path, held):
    folder = tiny.photos(tmp_path / "many", count=5, size=(40, 30))
    settings = {"instance_data_dir": str(folder), "max_train_steps": 1, "with_prior_preservation": False}
    list(train(config(pipelines("stable_diffusion"), root=tmp_path, output_dir=tmp_path / "run", **settings)))
    assert held["decoded"] == 3 * 5


def test_sheets_and_scores_of_photos_on_the_disk_are_those_of_decoded_ones(encoder_flags, tmp_path):
    files = [PhotoFile(path) for path in sorted(tiny.photos(tmp_path / "p", size=(400, 300)).iterdir())]
    decoded = [load(file.path) for file in files]
    encoders = [EncoderSettings(**encoder_flags).load(device=torch.device("cpu")) for _ in range(2)]
    for name in ("dino", "clip"):
        assert torch.equal(getattr(encoders[0], name)(files), getattr(encoders[1], name)(decoded))
    sheets = [contact_sheet([("photos", pictures)]).tobytes() for pictures in (decoded, [fit(file.read()) for file in files])]
    assert sheets[0] == sheets[1]
