"""The model card of a run on the toybox: its lines of Python run in the run's folder as they stand there, and draw what was learned."""

import re

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import dreambooth
from dreambooth.files.packaged import toybox
from tests import tiny

WAYS = {
    "full": {"learning_rate": 1e-3},
    "full, the encoder not saved": {"learning_rate": 1e-3, "skip_save_text_encoder": True},
    "lora": {"method": "lora", "learning_rate": 1e-2},
    "lokr": {"method": "lokr", "learning_rate": 1e-1},
    "textual_inversion": {"method": "textual_inversion", "learning_rate": 1.0},
    "custom_diffusion": {"method": "custom_diffusion", "learning_rate": 1e-2},
}
"""Ways whose lines differ; LoHa and OFT have LoKr's."""
SHORT = {
    "max_train_steps": 2, "train_batch_size": 1, "gradient_accumulation_steps": 1, "lr_warmup_steps": 0, "with_prior_preservation": False,
    "skip_final_inference": True, "seed": 0,
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_the_lines_of_a_toybox_runs_card_run_as_they_stand(tmp_path, monkeypatch, way):
    photos, run = tiny.photos(tmp_path / "photos", size=(128, 128)), tmp_path / "run"
    dreambooth.train(
        instance_data_dir=photos, class_noun="dog", pretrained_model_name_or_path="toybox", output_dir=run, **SHORT, **WAYS[way]
    )
    code = (run / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    asked = re.search(r"^image = pipe\((.+)\)\.images\[0\]$", code, re.M)
    assert asked, code
    monkeypatch.chdir(run)
    few = "num_inference_steps=2, generator=torch.manual_seed(0)"
    lines: dict = {}
    exec(code.replace(asked[0], f"image = pipe({asked[1]}, {few}).images[0]"), lines)
    untuned = StableDiffusionPipeline.from_pretrained(toybox(), dtype=torch.float32)
    plain = eval(f"untuned({asked[1]}, {few}).images[0]", {"untuned": untuned, "torch": torch})
    assert lines["image"].size == (128, 128)
    assert np.abs(np.asarray(lines["image"], int) - np.asarray(plain, int)).max() > 2, "what was learned is in the picture"
