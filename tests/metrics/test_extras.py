"""Scores beside the paper's: DINOv2 and SigLIP, each by an encoder of its own that is used where it is asked for."""

import pytest
import torch
from PIL import Image

from dreambooth.cli import main
from dreambooth.evaluation.scoring import by_prompt, measure, real_scores
from dreambooth.metrics import EXTRAS, SCORES
from dreambooth.metrics.encoders import EncoderSettings
from dreambooth.metrics.networks import NETWORKS
from tests.metrics import encoders
from tests.metrics.test_contract import evidence


@pytest.fixture
def both(loaded):
    return loaded(extras=True)


def test_nothing_is_measured_by_an_encoder_that_nobody_asked_for(loaded):
    names = {metric.name for metric in EXTRAS}
    assert names.isdisjoint(measure(evidence(), loaded())) and names.isdisjoint(real_scores(evidence().photos, loaded(), seed=0))
    assert EncoderSettings().beside("some/model").given().keys().isdisjoint({"dinov2_encoder", "siglip_encoder"})
    assert set(loaded().missing()).isdisjoint({"dinov2", "siglip"}), "nobody misses what was not asked for"


def test_each_has_a_score_of_its_own_name_by_model_by_prompt_and_for_the_real_photos(both):
    measured = measure(evidence(), both)
    assert {metric.name for metric in (*SCORES, *EXTRAS)} <= measured.keys()
    values = {name: measured[name].mean() for name in ("dino", "dinov2", "clip_i", "siglip_i")}
    assert len(set(values.values())) == len(values)
    listed = by_prompt(measured, 3, seed=0)
    assert all({"dinov2", "siglip_i"} <= scores.keys() for scores in listed)
    assert {"dinov2", "siglip_i"} <= real_scores(evidence().photos, both, seed=0)["without_self_pairs"].keys()


def test_dinov2_gives_the_class_token_of_transformers_own_model(extra_folders):
    from transformers import Dinov2Model

    network = NETWORKS["dinov2"].load(str(extra_folders["dinov2"]))
    images = [encoders.picture(1, (50, 40)), encoders.picture(2)]
    theirs = Dinov2Model.from_pretrained(extra_folders["dinov2"])(network.preprocess(images)).last_hidden_state[:, 0]
    assert torch.allclose(network.embed(images, torch.device("cpu")), theirs, atol=1e-6)
    assert network.preprocess(images).shape == (2, 3, 224, 224)


def test_siglip_sees_pictures_as_its_own_processor_prepares_them(extra_folders):
    from transformers import SiglipImageProcessorPil, SiglipModel

    network = NETWORKS["siglip"].load(str(extra_folders["siglip"]))
    images = [encoders.picture(1, (50, 30)), encoders.picture(2, (20, 64))]
    processed = SiglipImageProcessorPil.from_pretrained(extra_folders["siglip"])(images, return_tensors="pt").pixel_values
    assert torch.allclose(network.preprocess(images), processed, atol=1e-6), "scaled to a square, not cut"
    theirs = SiglipModel.from_pretrained(extra_folders["siglip"]).get_image_features(pixel_values=processed).pooler_output
    assert torch.allclose(network.embed(images, torch.device("cpu")), theirs, atol=1e-5)


def test_a_wide_picture_keeps_its_ends(extra_folders):
    network = NETWORKS["siglip"].load(str(extra_folders["siglip"]))
    wide = Image.new("RGB", (300, 60))
    wide.paste((255, 0, 0), (0, 0, 30, 60))
    assert network.preprocess([wide])[0, 0].max() > 0.9


def test_the_command_names_them_and_how_they_are_asked_for(capsys):
    assert main(["encoders", "list"]) == 0
    said = capsys.readouterr().out
    assert "--dinov2_encoder facebook/dinov2-base" in said and "--siglip_encoder google/siglip" in said
