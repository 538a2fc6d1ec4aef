"""What photos are called: a subject that no caption names, words behind the last token that is read, and what the plan says of both."""

import json

import pytest

from dreambooth.core.errors import SettingError
from dreambooth.evaluation.pictures import Lazy, Series, Wanted, have
from dreambooth.families.sampling import Sampling
from dreambooth.methods import TextualInversion
from dreambooth.prompts.placeholder import fill, holds_placeholder, read_prompts
from dreambooth.run.captions import cut_off, summary, unnamed
from dreambooth.run.generate import Drawn, GenerateConfig, asked, generate
from dreambooth.run.material import gather
from dreambooth.run.train import train
from dreambooth.setup.given import from_arguments
from dreambooth.setup.open import Opened
from dreambooth.training.records import Message
from tests import tiny
from tests.training.runs import config

LONG = ", ".join(["standing on a red painted wooden toy box"] * 20)


@pytest.fixture(scope="module")
def family(pipelines):
    return tiny.load(pipelines("stable_diffusion"))


@pytest.fixture
def wanted(pipelines, photos, tmp_path):
    """A configuration on four photos with these captions (None: no file)."""

    def build(*captions: str | None, **settings):
        for number, caption in enumerate(captions):
            if caption is not None:
                (photos / f"{number}.txt").write_text(caption)
        given = {"instance_data_dir": str(photos), "instance_prompt": "a [V] dog", "output_dir": tmp_path / "run", **settings}
        return config(pipelines("stable_diffusion"), root=tmp_path, **given)

    return build


@pytest.mark.parametrize("caption", ["a brown dog on grass", "a photo of <trigger>", "a asks dog, sks1, SKS", "a [name] dog", "TOK dog"])
def test_captions_that_never_say_the_subjects_name_are_reported_with_their_number_and_one_of_them(wanted, caption):
    asked_for = wanted(caption, caption, caption, caption)
    (output,) = unnamed(asked_for, gather(asked_for, "sks"))
    assert (
        "Nothing would be learned of [V] from 4 of 4 photos" in output and f'0.txt: "{caption}"' in output and "--no-use_captions" in output
    )
    mixed = wanted("a sks dog", "the sks's bed", caption, "sks")
    (output,) = unnamed(mixed, gather(mixed, "sks"))
    assert "from 1 of 4 photos" in output and "2.txt" in output
    off = wanted(use_captions=False)
    assert unnamed(off, gather(off, "sks")) == []


def test_photos_without_captions_are_what_the_instance_prompt_says(wanted):
    without = wanted("a [V] dog", instance_prompt="a dog of mine", identifier="sks")
    (output,) = unnamed(without, gather(without, "sks"))
    assert "3 of 4 photos" in output and "--instance_prompt" in output
    whole = wanted("a [V] dog")
    assert unnamed(whole, gather(whole, "sks")) == []


def test_without_an_identifier_the_words_that_the_class_lacks_are_the_subjects(wanted):
    settings = {"instance_prompt": "a photo of sks dog", "class_prompt": "a photo of dog", "identifier": None}
    plain = wanted("a brown dog", "a photo of sks dog in snow", **settings)
    (output,) = unnamed(plain, gather(plain, None))
    assert "Nothing would be learned of sks from 1 of 4 photos" in output and "0.txt" in output
    unknown = wanted(**{**settings, "class_prompt": None, "with_prior_preservation": False})
    assert unnamed(unknown, gather(unknown, None)) == [], "nobody can know which words are the subject's"


@pytest.mark.parametrize("spelling", ["[V]", "[v]", "[trigger]", "[Trigger]", "[ TRIGGER ]"])
def test_the_placeholder_of_small_letters_and_of_ai_toolkit_is_the_identifier_everywhere(wanted, tmp_path, pipelines, spelling):
    captioned = wanted(f"a photo of {spelling} in snow", instance_prompt=f"a {spelling} dog")
    material = gather(captioned, "sks")
    assert [photo.prompt for photo in material.photos] == ["a photo of sks in snow", *["a sks dog"] * 3]
    assert unnamed(captioned, material) == [] and holds_placeholder(f"x {spelling}")
    (tmp_path / "prompts.txt").write_text(f"a {spelling} dog\n")
    assert read_prompts(tmp_path / "prompts.txt") == ["a [V] dog"]
    assert fill(f"a {spelling} dog", "<it>", replaced="dog") == "a <it>"
    base = str(pipelines("stable_diffusion"))
    words = {"run": base, "prompt": [f"a {spelling}"], "negative_prompt": f"a {spelling} cat", "identifier": "sks"}
    output = asked(from_arguments(GenerateConfig, {**words, "output_dir": str(tmp_path / "out")}))
    assert output.prompts == ("a sks",) and output.negative_prompt == "a sks cat"
    with pytest.raises(SettingError, match="no identifier"):
        fill(spelling, None)


def test_the_plan_says_what_photos_are_called(wanted):
    plain = wanted()
    assert summary(plain, gather(plain, "sks")) == ('4 photos of "a sks dog", identifier sks', "")
    some = wanted("a [V] dog in a red hat", "a cat")
    photos, captions = summary(some, gather(some, "sks"))
    assert photos == "4 photos, identifier sks" and captions.startswith("2 of 4 photos have one, 1 with sks;")
    assert '"a sks dog in a red hat"' in captions and 'others are "a sks dog"' in captions
    for number in range(4):
        wanted(*["a [V] dog"] * (number + 1))
    photos, captions = summary(some, gather(some, "sks"))
    assert captions.startswith("4 of 4 photos have one, 4 with sks;") and "others" not in captions


def test_a_plan_of_several_subjects_and_of_templates_says_so(wanted, tmp_path):
    entries = [{"instance_prompt": f"a [V] {noun}", "instance_data_dir": str(tiny.photos(tmp_path / noun))} for noun in ("dog", "cat")]
    (tmp_path / "list.json").write_text(json.dumps(entries))
    names = {"instance_data_dir": None, "instance_prompt": None, "with_prior_preservation": False}
    several = wanted(**names, concepts_list=str(tmp_path / "list.json"))
    assert summary(several, gather(several, "sks"))[0].startswith('8 photos of "a sks dog" and "a sks cat"')
    word = wanted(
        method="textual_inversion", placeholder_token="<it>", instance_prompt=None, class_noun="dog", with_prior_preservation=False
    )
    assert '27 templates ("a photo of a <it>" ...)' in summary(word, gather(word, "<it>"))[0]


def test_a_name_behind_the_last_token_that_is_read_is_refused_by_file(wanted, family):
    behind = wanted("a [V] dog", f"{LONG}, a [V] dog")
    with pytest.raises(SettingError) as raised:
        cut_off(behind, gather(behind, "sks"), family)
    assert raised.value.setting.endswith("1.txt") and "77 tokens" in raised.value.reason and raised.value.fix
    instance = wanted("a [V] dog", "a [V] dog", instance_prompt=f"{LONG} of [V]")
    with pytest.raises(SettingError, match="--instance_prompt"):
        cut_off(instance, gather(instance, "sks"), family)


def test_what_is_cut_off_of_other_prompts_is_reported_with_its_place(wanted, family):
    twice = wanted(
        f"a [V] dog, {LONG}, and a [V] kennel", "a [V] dog", validation_prompt=f"a [V] dog {LONG}", validation_negative_prompt=LONG
    )
    output = cut_off(twice, gather(twice, "sks"), family)
    assert [sentence.split(" ")[0] for sentence in output] == ["0.txt", "--validation_prompt", "--validation_negative_prompt"]
    assert all("77 tokens" in sentence and 'cut off: "' in sentence for sentence in output)
    many = wanted(*[f"a [V] dog {number} {LONG}" for number in range(4)])
    output = cut_off(many, gather(many, "sks"), family)
    assert len(output) == 4 and output[-1] == "1 more captions are cut off, too."
    short = wanted(*["a [V] dog"] * 4)
    assert cut_off(short, gather(short, "sks"), family) == []


def test_the_length_is_the_one_that_the_run_asks_for_and_what_t5_reads_is_read(wanted, pipelines):
    caption = "a dog on the grass, [V]"
    behind = wanted(*[caption] * 4)
    shorter = tiny.load(pipelines("stable_diffusion"))
    shorter.configure_tokenizers(max_length=6)
    with pytest.raises(SettingError, match="6 tokens"):
        cut_off(behind, gather(behind, "sks"), shorter)
    flux = tiny.load(pipelines("flux"))
    flux.tokenizers[1].model_max_length = 512
    words = f"{LONG[:400]}, a sks dog"
    long = wanted(*[words] * 4)
    assert flux.as_read(words) == (words, "") and cut_off(long, gather(long, "sks"), flux) == []
    flux.tokenizers[1].model_max_length = 32
    with pytest.raises(SettingError, match="77 tokens"):
        cut_off(long, gather(long, "sks"), flux)


def test_a_word_of_several_vectors_is_read_whole_or_not_at_all(wanted, pipelines):
    family = tiny.load(pipelines("stable_diffusion"))
    method = TextualInversion(placeholder_token="<it>", initializer_token="dog", num_vectors=5)
    method.attach(family, method.parts(family, train_text_encoder=False), seed=0)
    before = next(n for n in range(100) if family.as_read("a " * (n + 1) + "<it>")[1])
    fits = wanted(*["a " * before + "[V]"] * 4)
    assert cut_off(fits, gather(fits, "<it>"), family) == []
    split = wanted(*["a " * (before + 2) + "[V]"] * 4)
    assert family.as_read("a " * (before + 2) + "<it>")[0].endswith("<it>_2"), "three of its five vectors are read"
    with pytest.raises(SettingError, match="stands behind"):
        cut_off(split, gather(split, "<it>"), family)


def test_a_run_says_it_before_its_plan_and_generate_before_its_pictures(wanted, pipelines, tmp_path):
    with pytest.raises(SettingError, match=r"0\.txt"):
        list(train(wanted(f"{LONG} [V]", max_train_steps=1)))
    for number in range(4):
        wanted(*["a brown dog"] * (number + 1))
    records = list(train(wanted(max_train_steps=1, validation_prompt=f"a [V] dog {LONG}")))
    output = [(record.important, record.text) for record in records if isinstance(record, Message)]
    assert any(important and "Nothing would be learned of [V] from 4 of 4" in text for important, text in output)
    assert any(important and text.startswith("--validation_prompt is longer") for important, text in output)
    assert any("captions" in text and 'have one, 0 with sks; the first: "a brown dog"' in text for _, text in output)
    drawing = {
        "run": str(pipelines("stable_diffusion")),
        "prompt": [f"a dog, {LONG}"],
        "negative_prompt": f"a cat, {LONG}",
        "num_images": 1,
    }
    *records, drawn = generate(from_arguments(GenerateConfig, {**drawing, "num_inference_steps": 1, "output_dir": str(tmp_path / "out")}))
    output = [record.text for record in records if isinstance(record, Message) and record.important]
    assert isinstance(drawn, Drawn) and [text.split('"')[1][:20] for text in output] == ["a dog, standing on a", "a cat, standing on a"]


def test_an_evaluation_says_what_of_its_prompts_is_not_read(family, tmp_path):
    series = Series("drawing", tmp_path, (Wanted(f"{LONG}, a dog", "", 0, 0), Wanted("a dog", "", 1, 0)), {})
    model = Lazy(lambda: Opened(family, "tiny"))
    records = list(have(series, model, sampling=Sampling(num_inference_steps=1, height=16), batch_size=2, precision="no"))
    assert [record.important for record in records if isinstance(record, Message)] == [True]


@pytest.mark.parametrize("name", ["validation_prompt", "validation_negative_prompt"])
def test_a_placeholder_that_nothing_stands_for_is_refused_before_anything_is_loaded(wanted, tmp_path, name):
    with pytest.raises(SettingError, match=f"--{name}"):
        list(train(wanted(instance_prompt="a photo of a dog", identifier=None, **{name: "a [v] dog"})))
    assert not (tmp_path / "run").exists()
