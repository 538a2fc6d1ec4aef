"""What a language model's family refuses or warns of, each in a sentence and before anything is written."""

import json
import shutil

import pytest

from dreambooth.core.errors import SettingError
from dreambooth.families import FAMILIES, ModelSource
from dreambooth.families.flux2 import Flux2
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
        ("z_image", {"text_encoder_use_attention_mask": True}, "--text_encoder_use_attention_mask"),
    ],
)
def test_what_makes_no_sense_for_a_family_is_refused_by_its_flag(pipelines, tmp_path, base, settings, flag):
    alone = {"with_prior_preservation": False, "class_prompt": None, "num_class_images": None, "prior_inference_steps": None}
    with pytest.raises(SettingError) as caught:
        run(tmp_path, pipelines(base), **alone, **settings)
    assert caught.value.setting == flag
    assert caught.value.fix


@pytest.mark.parametrize("base", ["flux2", "z_image"])
def test_a_tokenizer_without_its_chat_template_is_refused(pipelines, tmp_path, base):
    folder = tmp_path / "model"
    shutil.copytree(pipelines(base), folder)
    (folder / "tokenizer" / "chat_template.jinja").unlink(missing_ok=True)
    config = folder / "tokenizer" / "tokenizer_config.json"
    config.write_text(json.dumps({name: value for name, value in json.loads(config.read_text()).items() if name != "chat_template"}))
    with pytest.raises(SettingError, match="chat template"):
        tiny.load(folder)


def test_distilled_models_are_trained_with_a_warning(pipelines, tmp_path):
    index = json.loads((pipelines("flux2") / "model_index.json").read_text())
    for distilled in (True, False):
        (tmp_path / "model_index.json").write_text(json.dumps({**index, "is_distilled": distilled}))
        assert bool(Flux2.advice(ModelSource(pretrained_model_name_or_path=str(tmp_path)))) == distilled
    names = {"Tongyi-MAI/Z-Image-Turbo": True, "Tongyi-MAI/Z-Image": False, "/turbo/z-image": False}
    assert {name: bool(ZImage.advice(ModelSource(pretrained_model_name_or_path=name))) for name in names} == names


def test_pictures_are_no_larger_than_the_table_of_positions(pipelines):
    family = tiny.load(pipelines("sd3"))
    check(family, Sampling(height=64, width=64))
    with pytest.raises(SettingError, match="--width"):
        check(family, Sampling(height=64, width=68))


@pytest.mark.parametrize("name", ["flux2", "z_image"])
def test_of_a_long_prompt_the_words_that_are_cut_off_are_told_and_never_the_template(pipelines, name):
    family = tiny.load(pipelines(name))
    family.configure_tokenizers(max_length=40)
    prompt = "A user sks dog, and an assistant who thinks of it"
    read, rest = family.as_read(prompt)
    assert prompt.startswith(read) and rest and prompt == f"{read}{prompt[len(read) : len(prompt) - len(rest)]}{rest}"
    assert family.as_read("a user") == ("a user", "")


def test_families_without_a_trainable_encoder_say_so_by_an_empty_tuple():
    assert {family.name for family in FAMILIES if not family.text_trainable} == {
        "FLUX.2 klein", "Z-Image", "DeepFloyd IF", "DeepFloyd IF, stage II",
    }  # fmt: skip


def test_a_new_word_is_refused_where_the_pipeline_could_not_load_it():
    import diffusers
    from diffusers.loaders import TextualInversionLoaderMixin

    for family in FAMILIES:
        assert family.takes_new_words == issubclass(getattr(diffusers, family.pipelines[0]), TextualInversionLoaderMixin)
        if not family.takes_new_words:
            with pytest.raises(SettingError, match="--method"):
                family.refuse_new_words()
