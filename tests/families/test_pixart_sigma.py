"""PixArt-Sigma is drawn and trained as its pipeline reads it; no flow, so that it stands apart from those."""

import json
import shutil

import pytest
import torch
from diffusers import DDPMScheduler
from torch.nn.functional import mse_loss

from dreambooth.core.errors import SettingError
from dreambooth.core.loss import squared_error
from dreambooth.families.pixart_sigma import PixArtSigma
from dreambooth.run.train import train
from tests import tiny
from tests.families import test_against_pipelines as flows
from tests.training import runs


@pytest.fixture
def family(pipelines):
    return tiny.load(pipelines("pixart_sigma"))


@pytest.mark.parametrize(("guidance", "negative"), [(1.0, None), (3.0, None), (3.0, "Red snow")], ids=["plain", "guided", "negative"])
def test_a_loop_of_predict_draws_the_pictures_of_the_pipeline(family, guidance, negative):
    flows.test_a_loop_of_predict_draws_the_pictures_of_the_pipeline(family, guidance, negative)


def test_it_embeds_prompts_as_its_pipeline(family):
    theirs, mask, *_ = family.pipe.encode_prompt(flows.PROMPTS, False, max_sequence_length=family.text_length(1))
    ours = family.embed(family.tokenize(flows.PROMPTS))
    assert torch.equal(ours["text"], theirs) and torch.equal(ours["mask"], mask.bool())


def test_its_loss_is_that_of_the_noise_whatever_its_variance(family):
    scheduler = DDPMScheduler.from_config(family.pipe.scheduler.config)
    batch = flows.batch_of(family)
    noisy = scheduler.add_noise(batch.x, batch.eps, batch.t)
    sizes = {"resolution": None, "aspect_ratio": None}
    text, mask = batch.condition["text"], batch.condition["mask"].long()
    answer = family.denoiser(noisy, text, batch.t, sizes, encoder_attention_mask=mask).sample
    pred = family.predict(noisy, family.process.times[batch.t], batch.condition)
    ours = squared_error(pred, family.process.target(batch.x, batch.eps, batch.t)).mean()
    torch.testing.assert_close(ours, mse_loss(answer[:, :4], batch.eps), rtol=1e-5, atol=0)


def test_gradient_checkpointing_and_bfloat16_change_nothing_of_weight(pipelines, family):
    flows.test_gradient_checkpointing_changes_no_gradient(family)
    flows.test_a_flow_in_bfloat16_answers_nearly_as_in_float32(tiny.load(pipelines("pixart_sigma")))


def test_its_makers_folder_in_which_the_transformer_has_an_older_name_is_the_same_model(pipelines, family, tmp_path):
    folder = tmp_path / "published"
    shutil.copytree(pipelines("pixart_sigma"), folder)
    for file in (folder / "model_index.json", folder / "transformer" / "config.json"):
        file.write_text(file.read_text().replace("PixArtTransformer2DModel", "Transformer2DModel"))
    config = folder / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "norm_type": "ada_norm_single"}))
    again = tiny.load(folder)
    options = family.pipeline_kwargs(2.0, None)
    assert torch.equal(tiny.picture(again.pipe, **options), tiny.picture(family.pipe, **options))
    again.save(tmp_path / "saved")
    assert torch.equal(tiny.picture(tiny.load(tmp_path / "saved").pipe, **options), tiny.picture(family.pipe, **options))


def test_folders_keep_the_names_of_diffusers_classes(family, tmp_path):
    """Though they have been given what takes adapters."""
    assert hasattr(family.denoiser, "add_adapter") and hasattr(family.pipe, "save_lora_weights")
    family.save(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert (index["_class_name"], index["transformer"]) == ("PixArtSigmaPipeline", ["diffusers", "PixArtTransformer2DModel"])
    assert json.loads((tmp_path / "transformer" / "config.json").read_text())["_class_name"] == "PixArtTransformer2DModel"


def test_an_identifier_in_capitals_is_refused_where_all_is_read_in_small_letters(pipelines, tmp_path):
    output = tmp_path / "run"
    settings = {"root": tmp_path, "output_dir": str(output), "identifier": "SKS", "instance_prompt": "a SKS dog"}
    with pytest.raises(SettingError, match="Use sks") as caught:
        list(train(runs.config(pipelines("pixart_sigma"), **settings)))
    assert caught.value.setting == "--identifier" and not output.exists()
    PixArtSigma.refuse_capitals("sks")
    PixArtSigma.refuse_capitals(None)
