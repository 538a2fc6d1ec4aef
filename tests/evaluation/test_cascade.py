"""A folder with `cascade.yaml` is evaluated as a run is: its last stage's pictures, beside those of the untuned stages."""

import json

import pytest
import yaml
from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.evaluation import EvaluateConfig, Scored, evaluate
from dreambooth.run.train import train
from dreambooth.setup.given import from_arguments
from dreambooth.training.records import Progress
from tests.training.runs import config

ALONE = {"with_prior_preservation": None, "class_prompt": None, "num_class_images": None, "max_train_steps": 1, "photo_size": (40, 40)}


@pytest.fixture(scope="module")
def cascade(pipelines, tmp_path_factory):
    root = tmp_path_factory.mktemp("cascade")
    few = {"validation_inference_steps": 2, "instance_prompt": "a [V] dog", "class_noun": "dog", "with_prior_preservation": False}
    for name, model, side in (("first", "deepfloyd", 8), ("second", "deepfloyd_superresolution", 32)):
        settings = {**ALONE, **few, "resolution": side, "method": "lora"}
        for _ in train(config(pipelines(model), root=root, output_dir=root / name, **settings)):
            pass
    (root / "dog").mkdir()
    (root / "dog" / "cascade.yaml").write_text(yaml.safe_dump({"stages": ["../first", "../second"]}))
    return root / "dog"


def ask(run, **settings):
    few = {"num_images": 1, "num_prompts": 2, "class_samples": 2, "num_inference_steps": 2}
    return list(evaluate(from_arguments(EvaluateConfig, {"run": str(run), **few, **settings})))


def test_a_cascade_is_scored_in_its_own_folder_beside_the_untuned_one(cascade, encoder_flags):
    records = ask(cascade, **encoder_flags)
    assert isinstance(records[-1], Scored) and records[-1].output_dir == cascade
    scores = json.loads((cascade / "scores.json").read_text())
    assert scores["dino"]["value"] is not None and scores["untuned"]["dino"]["value"] is not None
    (picture, *_) = sorted((cascade / "samples" / "evaluation" / "tuned").glob("*.png"))
    with Image.open(picture) as image:
        assert image.size == (32, 32)
        assert len(json.loads(image.text["dreambooth"])["stages"]) == 1
    again = ask(cascade, **encoder_flags)
    assert not any(isinstance(record, Progress) for record in again), "nothing is drawn twice"


def test_a_later_stage_alone_is_not_evaluated(cascade, encoder_flags):
    with pytest.raises(SettingError, match="--then"):
        ask(cascade.parent / "second", **encoder_flags)
