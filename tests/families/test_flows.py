"""What a language model's family refuses or warns of, each in a sentence and before anything is written."""

import json
import shutil

import pytest
import torch

from dreambooth.core.errors import SettingError
from dreambooth.families import FAMILIES, ModelSource
from dreambooth.families.flux2 import Flux2
from dreambooth.families.krea2 import Krea2
from dreambooth.families.sampling import Sampling, check
from dreambooth.families.z_image import ZImage
from dreambooth.run.train import train
from tests import tiny


def run(tmp_path, base, **settings):
    from tests.training import runs

    list(train(runs.config(base, root=tmp_path, output_dir=str(tmp_path / "run"), **settings)))


@pytest.mark.parametrize(
    ("base", "settings", "flag"),
    [
        ("flux2", {"train_text_encoder": True}, "--train_text_encoder"),
        ("z_image", {"train_text_encoder": True}, "--train_text_encoder"),
        ("flux2", {"validation_prompt": "a dog", "validation_negative_prompt": "red"}, "--validation_negative_prompt"),
        ("sd3", {"resolution": 128, "ignore_photo_errors": True}, "--resolution"),
        ("flux2", {"resolution": 18}, "--resolution"),
        ("krea2", {"train_text_encoder": True}, "--train_text_encoder"),
        ("krea2", {"resolution": 18}, "--resolution"),
        ("flux2_dev", {"validation_prompt": "a dog", "validation_negative_prompt": "red"}, "--validation_negative_prompt"),
        ("sana", {"mixed_precision": "fp16"}, "--mixed_precision"),
        ("sana", {"identifier": "SKS"}, "--identifier"),
        ("qwen_image", {"train_text_encoder": True}, "--train_text_encoder"),
        ("z_image", {"text_encoder_use_attention_mask": True}, "--text_encoder_use_attention_mask"),
    ],
)
def test_what_makes_no_sense_for_a_family_is_refused_by_its_flag(pipelines, tmp_path, base, settings, flag):
    alone = {"with_prior_preservation": False, "class_prompt": None, "num_class_images": None, "prior_inference_steps": None}
    with pytest.raises(SettingError) as caught:
        run(tmp_path, pipelines(base), **alone, **settings)
    assert caught.value.setting == flag
    assert caught.value.fix


@pytest.mark.parametrize("base", ["flux2", "z_image", "flux2_dev"])
def test_a_tokenizer_without_its_chat_template_is_refused(pipelines, tmp_path, base):
    folder = tmp_path / "model"
    shutil.copytree(pipelines(base), folder)
    (folder / "tokenizer" / "chat_template.jinja").unlink(missing_ok=True)
    config = folder / "tokenizer" / "tokenizer_config.json"
    config.write_text(json.dumps({name: value for name, value in json.loads(config.read_text()).items() if name != "chat_template"}))
    with pytest.raises(SettingError, match="chat template"):
        tiny.load(folder)


@pytest.mark.parametrize("family", [Flux2, Krea2])
def test_a_model_that_says_it_is_distilled_is_trained_with_a_warning(tmp_path, family):
    for distilled in (True, False):
        (tmp_path / "model_index.json").write_text(json.dumps({"is_distilled": distilled}))
        assert bool(family.advice(ModelSource(pretrained_model_name_or_path=str(tmp_path)))) == distilled


def test_z_image_turbo_is_known_by_its_name():
    names = {"Tongyi-MAI/Z-Image-Turbo": True, "Tongyi-MAI/Z-Image": False, "/turbo/z-image": False}
    assert {name: bool(ZImage.advice(ModelSource(pretrained_model_name_or_path=name))) for name in names} == names


def test_the_warning_of_a_distilled_model_comes_before_it_is_loaded(pipelines, tmp_path):
    from dreambooth.training.records import Message
    from tests.training import runs

    for name, base in (("flux2", tmp_path / "klein"), ("z_image", tmp_path / "Z-Image-Turbo")):
        shutil.copytree(pipelines(name), base)
        index = base / "model_index.json"
        index.write_text(json.dumps({**json.loads(index.read_text()), **({"is_distilled": True} if name == "flux2" else {})}))
        said = []
        for record in train(runs.config(base, root=tmp_path, output_dir=str(tmp_path / "run"), max_train_steps=1)):
            said += [(record.text, record.important)] if isinstance(record, Message) else []
            if said and said[-1][0].startswith("Loading"):
                break
        assert any("is distilled" in text and important for text, important in said), name


def test_of_a_processor_the_tokenizer_is_loaded_alone(pipelines, tmp_path):
    """FLUX.2 dev's folder names one that cannot be made without torchvision, which nothing here needs."""
    folder = tmp_path / "published"
    shutil.copytree(pipelines("flux2_dev"), folder)
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "tokenizer": ["transformers", "PixtralProcessor"]}))
    ModelSource(pretrained_model_name_or_path=str(folder)).check()
    family, plain = tiny.load(folder), tiny.load(pipelines("flux2_dev"))
    assert torch.equal(tiny.picture(family.pipe), tiny.picture(plain.pipe))
    family.save(tmp_path / "saved")
    assert torch.equal(tiny.picture(tiny.load(tmp_path / "saved").pipe), tiny.picture(plain.pipe))
    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(SettingError, match="vocabulary"):
        tiny.load(folder)


def test_pictures_are_no_larger_than_the_table_of_positions(pipelines):
    family = tiny.load(pipelines("sd3"))
    check(family, Sampling(height=64, width=64))
    with pytest.raises(SettingError, match="--width"):
        check(family, Sampling(height=64, width=68))


@pytest.mark.parametrize("name", ["flux2", "z_image", "krea2", "qwen_image", "sana"])
def test_of_a_long_prompt_the_words_that_are_cut_off_are_reported_and_never_the_template(pipelines, name):
    family = tiny.load(pipelines(name))
    family.configure_tokenizers(max_length=20)
    prompt = "A user sks dog, and an assistant who thinks of it"
    read, rest = family.as_read(prompt)
    assert prompt.startswith(read) and rest and prompt == f"{read}{prompt[len(read) : len(prompt) - len(rest)]}{rest}"
    assert family.as_read("a user") == ("a user", "")


def test_one_step_is_refused_where_the_sampler_would_divide_by_0(pipelines):
    """Qwen-Image's stretches its sigmas to end where they should, of which one alone leaves nothing."""
    family = tiny.load(pipelines("qwen_image"))
    check(family, Sampling(num_inference_steps=2))
    with pytest.raises(SettingError, match="--num_inference_steps"):
        check(family, Sampling(num_inference_steps=1))
    check(tiny.load(pipelines("krea2")), Sampling(num_inference_steps=1))


def test_text_encoders_that_can_learn_are_clips():
    learning = {"Stable Diffusion", "Stable Diffusion XL", "FLUX.1", "Stable Diffusion 3", "Stable Diffusion x4 upscaler"}
    assert {family.name for family in FAMILIES if family.text_trainable} == learning


def test_a_new_word_is_refused_where_the_pipeline_could_not_load_it():
    import diffusers
    from diffusers.loaders import TextualInversionLoaderMixin

    for family in FAMILIES:
        assert family.takes_new_words == issubclass(getattr(diffusers, family.pipelines[0]), TextualInversionLoaderMixin)
        if not family.takes_new_words:
            with pytest.raises(SettingError, match="--method"):
                family.refuse_new_words()
