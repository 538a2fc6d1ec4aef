"""A cached set of class images is found again by all that decides its pictures, and by nothing else."""

import json

import pytest

from dreambooth.core.errors import SettingError
from dreambooth.families.sampling import Sampling
from dreambooth.families.stable_diffusion import StableDiffusion
from dreambooth.run.material import gather, plan_prior
from dreambooth.setup.config import Text, TrainConfig
from dreambooth.training.prior import MANIFEST, ClassImages, Prior
from tests.training.runs import config


@pytest.fixture
def planned(pipelines, tmp_path):
    """The set that a configuration asks for."""

    def of(wanted: TrainConfig | None = None, **settings) -> ClassImages:
        wanted = wanted or config(pipelines("stable_diffusion"), root=tmp_path, **settings)
        (images,) = plan_prior(wanted, gather(wanted, "sks"), StableDiffusion, "fingerprint")
        return images

    return of


@pytest.fixture
def changed_default(monkeypatch):
    """A default that is another than in the code: of a setting's class, one of its fields."""
    changed = []

    def change(kind, name, value):
        monkeypatch.setattr(kind.model_fields[name], "default", value)
        kind.model_rebuild(force=True)
        changed.append(kind)

    yield change
    monkeypatch.undo()
    for kind in changed:
        kind.model_rebuild(force=True)


DECIDES = [
    {"mixed_precision": "bf16"}, {"mixed_precision": "fp16"}, {"prior_generation_precision": "bf16"}, {"allow_tf32": True},
    {"prior_scheduler": "euler"}, {"prior_eta": 0.0}, {"prior_inference_steps": 3}, {"prior_guidance_scale": 2.0}, {"resolution": 24},
    {"class_prompt": "a cat"}, {"tokenizer_max_length": 20}, {"text_encoder_use_attention_mask": True}, {"variant": "fp16"},
]  # fmt: skip


@pytest.mark.parametrize("settings", DECIDES, ids=str)
def test_what_decides_a_picture_decides_where_it_is_searched(planned, settings):
    assert planned(**settings).folder != planned().folder


@pytest.mark.parametrize("part", ["vae", "tokenizer"])
def test_the_bytes_of_a_part_in_the_place_of_the_models_own_decide_it(planned, pipelines, tmp_path, part):
    name = {"vae": "pretrained_vae_name_or_path", "tokenizer": "tokenizer_name"}[part]
    (tmp_path / part).mkdir()
    (tmp_path / part / "config.json").write_text("{}")
    first = planned(**{name: str(tmp_path / part)})
    (tmp_path / part / "config.json").write_text("[]")
    assert len({planned().folder, first.folder, planned(**{name: str(tmp_path / part)}).folder}) == 3


@pytest.mark.parametrize("settings", [{"sample_batch_size": 1}, {"seed": 7}, {"num_class_images": 9}, {"learning_rate": 1.0},
                                      {"prior_generation_precision": "fp32"}, {"method": "lora"}], ids=str)  # fmt: skip
def test_what_does_not_decide_it_shares_the_pictures(planned, settings):
    assert planned(**settings).folder == planned().folder


def test_weights_that_the_training_has_rounded_draw_pictures_of_their_own(planned):
    whole, rounded = planned(mixed_precision="bf16"), planned(mixed_precision="bf16", method="lora")
    assert whole.made_with == rounded.made_with and whole.folder != rounded.folder
    drawn_whole = {"mixed_precision": "bf16", "prior_generation_precision": "fp32"}
    assert planned(**drawn_whole, method="lora").folder == planned(**drawn_whole).folder == planned().folder


def test_another_default_is_another_set(planned, pipelines, tmp_path, changed_default):
    usual = config(pipelines("stable_diffusion"), root=tmp_path)
    before = planned(usual)
    changed_default(Text, "tokenizer_max_length", 20)
    assert planned(usual.model_copy(update={"text": Text()})).folder != before.folder
    changed_default(Sampling, "eta", 0.5)
    assert before.sampling.eta == 1.0 and planned(usual).folder == before.folder, "the prior says it itself"
    changed_default(Prior, "prior_eta", 0.5)
    given = {name: getattr(usual.prior, name) for name in usual.prior.model_fields_set}
    assert planned(usual.model_copy(update={"prior": Prior(**given)})).folder != before.folder


def test_pictures_of_another_precision_are_refused_in_a_folder_of_the_users_own(planned, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    first = planned(class_data_dir=str(folder), mixed_precision="bf16")
    manifest = {"made_with": first.made_with, "next_seed": 0, "images": {}, "rejected": {}}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert first.missing() == first.count
    with pytest.raises(SettingError, match="made with another precision"):
        planned(class_data_dir=str(folder)).missing()
    with pytest.raises(SettingError, match="another tokenizer_max_length"):
        planned(class_data_dir=str(folder), mixed_precision="bf16", tokenizer_max_length=20).missing()


def test_a_folder_of_a_version_that_wrote_less_down_is_still_held_against_what_it_wrote(planned, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    now = planned(class_data_dir=str(folder), tokenizer_max_length=20)
    old = {name: now.made_with[name] for name in ("model", "prompt", "sampling")}
    manifest = {"next_seed": 0, "images": {}, "rejected": {}}
    (folder / MANIFEST).write_text(json.dumps({**manifest, "made_with": {**old, "read": {"tokenizer_max_length": 20}}}))
    assert now.missing() == now.count
    with pytest.raises(SettingError, match="another tokenizer_max_length"):
        planned(class_data_dir=str(folder)).missing()
    (folder / MANIFEST).write_text(json.dumps({**manifest, "made_with": old}))
    assert planned(class_data_dir=str(folder), mixed_precision="bf16").missing() == now.count
    with pytest.raises(SettingError, match="another tokenizer_max_length"):
        now.missing()
