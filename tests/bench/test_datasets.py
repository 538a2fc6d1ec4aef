"""Datasets: DreamBench's list, the toybox's subjects, a folder of folders; and what the arms call a subject."""

import pytest
from PIL import Image

from dreambooth.bench.datasets import Subject, open_dataset
from dreambooth.bench.job import Job
from dreambooth.bench.names import names
from dreambooth.bench.plan import Arm
from dreambooth.bench.suite import prompts_of
from dreambooth.core.errors import SettingError
from tests import tiny

SUBJECTS = "backpack,backpack\nbear_plushie,stuffed animal\ndog,dog\ndog2,dog"
DREAMBENCH = f"Classes\n\nsubject_name,class\n{SUBJECTS}\n\nPrompts\n\nObject Prompts\n\na, b\n"


def test_dreambenchs_list_is_read_as_it_is_and_absent_subjects_are_reported(tmp_path):
    (tmp_path / "prompts_and_classes.txt").write_text(DREAMBENCH)
    for name in ("backpack", "bear_plushie", "dog"):
        (tmp_path / name).mkdir()
    dataset = open_dataset(str(tmp_path), tmp_path)
    found = {subject.name: (subject.noun, subject.live) for subject in dataset.subjects}
    assert found == {"backpack": ("backpack", False), "bear_plushie": ("stuffed animal", False), "dog": ("dog", True)}
    assert dataset.absent[0].endswith("lists 4 subjects; 1 have no folder: dog2.")
    assert all(
        "backpack" in s.description or "animal" in s.description or "dog" in s.description for s in dataset.subjects if s.description
    )


def test_the_toyboxs_subjects_are_rendered_when_their_turn_comes_and_say_what_they_look_like(tmp_path):
    dataset = open_dataset(None, tmp_path)
    assert len(dataset.subjects) == 25 and not list(tmp_path.iterdir())
    subject = next(s for s in dataset.subjects if s.name == "dog_spots")
    dataset.make(subject)
    photos = sorted(subject.photos.glob("*.png"))
    assert len(photos) >= 4 and Image.open(photos[0]).size == (128, 128)
    masks = [Image.open(subject.photos / "masks" / photo.name) for photo in photos]
    assert all(mask.mode == "L" and mask.getpixel((0, 0)) == 0 and mask.getextrema() == (0, 255) for mask in masks)
    assert subject.description == "dotted white dog with black dots" and subject.live


def test_the_first_few_subjects_are_of_different_classes_and_among_the_first_many(tmp_path):
    dataset = open_dataset(None, tmp_path)
    five, twelve = dataset.some(count=5), dataset.some(count=12)
    assert twelve[:5] == five and len({subject.noun for subject in twelve}) == 12


def test_subjects_with_fewer_photos_than_a_plan_needs_are_left_out_and_reported_and_empty_ones_fail_by_themselves(tmp_path):
    for name, photos in (("few", 2), ("enough", 3)):
        tiny.photos(tmp_path / name, photos)
    (tmp_path / "empty").mkdir()
    (tmp_path / "subjects.csv").write_text("subject_name,class\nfew,dog\nenough,dog\nempty,dog\n")
    dataset = open_dataset(str(tmp_path), tmp_path)
    kept = dataset.with_photos(3)
    assert {subject.name for subject in kept.subjects} == {"enough", "empty"} and kept.absent[-1].endswith("photos: few.")
    assert dataset.with_photos(2) == dataset
    with pytest.raises(SettingError, match=r"no subject of .* has 4 photos"):
        dataset.with_photos(4)


@pytest.mark.parametrize(
    ("text", "words"),
    [("name,class\na,dog\n", "no column 'name'"), ("subject_name,class,live\na,dog,perhaps\n", "line 2: live is 'perhaps'"),
     ("subject_name,class\na,\n", "line 2: a subject_name or a class"), ("subject_name,class\na,dog\na,dog\n", "lists a more than once"),
     ("subject_name,class\nb,dog\n", "none of their folders is there")],
)  # fmt: skip
def test_a_list_that_is_wrong_is_reported(text, words, tmp_path):
    tiny.photos(tmp_path / "a")
    (tmp_path / "subjects.csv").write_text(text)
    with pytest.raises(SettingError, match=words):
        open_dataset(str(tmp_path), tmp_path)


def test_a_folder_that_is_no_dataset_is_refused_with_what_one_is(tmp_path):
    with pytest.raises(SettingError, match=r"holds neither prompts_and_classes.txt nor subjects.csv"):
        open_dataset(str(tmp_path), tmp_path)


def words(arm: Arm, seed: int = 0):
    return names(arm, Subject("dog7", "dog", True, None), ("can", "dog", "vase"), seed=seed)


def test_an_arm_says_what_the_subject_is_called():
    assert words(Arm()) == {"class_noun": "dog"}
    assert words(Arm(noun="none")) == {"instance_prompt": "a [V]", "with_prior_preservation": False}
    wrong = {words(Arm(noun="wrong"), seed)["class_noun"] for seed in range(20)}
    assert wrong == {"can", "vase"} and words(Arm(noun="wrong")) == words(Arm(noun="wrong"))
    assert words(Arm(identifier_kind="sks"))["identifier"] == "sks" and words(Arm(identifier_kind="common"))["identifier"] in (
        "unique",
        "special",
    )
    drawn = {words(Arm(identifier_kind="random"), seed)["identifier"] for seed in range(5)}
    assert len(drawn) == 5 and all(len(word) == 9 for word in drawn)


def test_the_arms_words_stand_in_the_prompts_and_the_correct_noun_in_those_that_clip_reads():
    def asked(trains=True, description=None, **settings):
        words = {"settings": {"pretrained_model_name_or_path": "x", **settings}, "evaluation": {"num_prompts": 2}}
        first, *_, last = prompts_of(Job("", "", "", "", 0, "dog", True, "", **words, trains=trains, description=description))
        assert first.text == "a [V] dog in the jungle" and first.plain == "a dog in the jungle" and last.plain == "a cube shaped dog"
        return first.asked, last.asked

    assert asked(class_noun="dog") == ("a [V] dog in the jungle", "a cube shaped [V] dog")
    assert asked(class_noun="can") == ("a [V] can in the jungle", "a cube shaped [V] can")
    assert asked() == ("a [V] in the jungle", "a cube shaped [V]")
    inverted = {"method": "textual_inversion", "class_noun": "dog"}  # its word stands for the noun too
    assert asked(**inverted) == ("a [V] in the jungle", "a cube shaped [V]")
    assert asked(**{**inverted, "method": "custom_diffusion"}) == ("a [V] dog in the jungle", "a cube shaped [V] dog")
    assert asked(trains=False) == ("a dog in the jungle", "a cube shaped dog")
    assert asked(trains=False, description="orange dog") == ("an orange dog in the jungle", "a cube shaped orange dog")
