"""The world: the same arguments give the same bytes, captions say what is seen, held-out subjects stay held out."""

import subprocess
import sys

import numpy as np
import pytest

from dreambooth.toybox.pretrain.pictures import draw_family, draw_scene
from dreambooth.toybox.world import (
    ACCESSORIES,
    ANIMALS,
    CLASSES,
    CONTEXTS,
    LIGHTS,
    PATTERNS,
    STYLES,
    UNSEEN_PATTERNS,
    VIEWS,
    Scene,
    Subject,
    caption,
    draw_subject,
    draw_training_subject,
    held_out,
    held_out_subjects,
    render,
    render_mask,
    render_photos,
    scene_of_prompt,
)
from dreambooth.toybox.world.fields import blend, capsule, sphere, union
from dreambooth.toybox.world.subject import HELD_OUT
from dreambooth.toybox.world.surfaces import PATTERNS as MASKS


def a_subject(noun: str = "dog") -> Subject:
    return draw_subject(np.random.default_rng(3), noun=noun, colors=("red", "white"))


@pytest.mark.parametrize("noun", CLASSES)
def test_render_is_deterministic_and_shows_the_subject(noun: str) -> None:
    subject, scene = a_subject(noun), Scene(context="beach", seed=5)
    picture = render(subject, scene, 64)
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture, render(subject, scene, 64))
    rows = np.nonzero(render_mask(subject, scene, 64).max(1) > 0.5)[0]
    assert 0.35 < (rows[-1] - rows[0] + 1) / 64 < 0.92


def test_render_is_the_same_in_another_process() -> None:
    code = (
        "import hashlib; from dreambooth.toybox.world import Scene, held_out_subjects, render;"
        "print(hashlib.sha256(render(held_out_subjects()[0], Scene(context='snow', seed=9), 64).tobytes()).hexdigest())"
    )
    import hashlib

    here = hashlib.sha256(render(held_out_subjects()[0], Scene(context="snow", seed=9), 64).tobytes()).hexdigest()
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == here


def test_the_world_needs_no_torch() -> None:
    code = "import sys; import dreambooth.toybox.world; print([m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_every_choice_of_a_scene_changes_the_picture() -> None:
    subject = a_subject()
    scenes = [Scene(context=context) for context in CONTEXTS] + [Scene(view=view) for view in VIEWS]
    scenes += [Scene(light=light) for light in LIGHTS if light != "day"] + [Scene(style=s) for s in STYLES if s != "photo"]
    scenes += [Scene(accessory=worn) for worn in ACCESSORIES] + [Scene(seed=1)]
    pictures = [render(subject, scene, 32).astype(float) for scene in scenes]
    for i, a in enumerate(pictures):
        for b in pictures[:i]:
            assert np.abs(a - b).mean() > 1


def test_patterns_differ_and_stay_between_the_two_colours() -> None:
    u, v = (g.ravel() for g in np.meshgrid(np.linspace(-3, 3, 80), np.linspace(-3, 3, 80)))
    masks = {name: mask(u, v) for name, mask in MASKS.items()}
    for name, mask in masks.items():
        assert mask.min() >= 0 and mask.max() <= 1
        if name != "plain":
            assert 0.1 < mask.mean() < 0.65, name


def test_an_accessory_is_worn_by_animals_only_and_is_no_part_of_the_mask() -> None:
    for noun in ("dog", "teapot"):
        bare, worn = (render(a_subject(noun), Scene(accessory=item, seed=2), 64) for item in (None, "red hat"))
        assert np.array_equal(bare, worn) == (noun not in ANIMALS)
    plain = render_mask(a_subject(), Scene(seed=2), 64).sum()
    assert render_mask(a_subject(), Scene(seed=2, accessory="red hat"), 64).sum() < plain


def test_captions_say_what_is_seen() -> None:
    subject = Subject("cat", (0.5,) * 8, ("orange", "white"), ((1, 0.5, 0), (1, 1, 1)), pattern="striped", shiny=True)
    scene = Scene(context="snow", view="side", light="night", style="sketch", accessory="red hat")
    said = caption(subject, scene, color=True, pattern=True, material=True)
    assert said == "a pencil sketch of a shiny striped orange cat wearing a red hat in the snow from the side at night"
    assert caption(subject, Scene(), trim=True) == "a cat with white stripes"
    assert caption(subject, Scene(), name="[V] cat") == "a [V] cat"
    orange = Subject("boot", (0.5,) * 8, ("orange", "white"), ((1, 0.5, 0), (1, 1, 1)))
    assert caption(orange, Scene(context="beach"), color=True) == "an orange boot on the beach"


def test_a_prompt_and_its_scene_go_both_ways() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        subject = draw_subject(rng)
        scene = draw_scene(subject, rng)
        read = scene_of_prompt(caption(subject, scene), subject, seed=scene.seed)[1]
        assert (read.context, read.light, read.style, read.accessory) == (scene.context, scene.light, scene.style, scene.accessory)
    red, _ = scene_of_prompt("a red [V] dog", a_subject().recolored("blue"))
    assert red.colors[0] == "red"
    assert scene_of_prompt("a [V] dog wearing a red hat", a_subject().recolored("blue"))[0].colors[0] == "blue"
    assert scene_of_prompt("a shiny [V] dog", a_subject())[0].shiny


def test_a_subject_is_a_small_file(tmp_path) -> None:
    subject = a_subject()
    subject.save(tmp_path / "dog.json")
    assert Subject.load(tmp_path / "dog.json") == subject
    assert (tmp_path / "dog.json").stat().st_size < 1000


def test_the_held_out_subjects_file_is_what_its_recipe_writes(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(held_out, "HELD_OUT", tmp_path / "subjects.jsonl")
    held_out.write()
    assert (tmp_path / "subjects.jsonl").read_bytes() == HELD_OUT.read_bytes()


def test_wrong_words_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"context='beech': the toybox knows beach"):
        Scene(context="beech")
    with pytest.raises(ValueError, match="noun='wolf'"):
        Subject("wolf", (0.5,) * 8, ("red", "blue"), ((1, 0, 0), (0, 0, 1)))


def test_held_out_subjects_are_never_drawn_for_training() -> None:
    held = held_out_subjects()
    assert len(held) >= 20 and {s.noun for s in held} == set(CLASSES)
    assert {s.pattern for s in held} >= set(UNSEEN_PATTERNS)
    taken = {(s.noun, s.colors, s.pattern) for s in held}
    rng = np.random.default_rng(1)
    for subject in held:
        for _ in range(20):
            drawn = draw_training_subject(rng, noun=subject.noun, colors=subject.colors)
            assert (drawn.noun, drawn.colors, drawn.pattern) not in taken
            assert drawn.pattern not in UNSEEN_PATTERNS and drawn.pattern in PATTERNS


def test_photos_are_four_to_six_in_different_places() -> None:
    for subject in held_out_subjects():
        scenes = subject.photo_scenes()
        assert 4 <= len(scenes) <= 6 and len({scene.context for scene in scenes}) == len(scenes)
        assert scenes == subject.photo_scenes()
    assert all(photo.shape == (32, 32, 3) for photo in render_photos(held_out_subjects()[0], 32))


def test_a_family_differs_in_all_but_class_and_colour_words() -> None:
    pairs = draw_family(np.random.default_rng(4))
    subjects = list(dict.fromkeys(subject for subject, _ in pairs))
    assert len(subjects) == 4 and len(pairs) == 12
    assert len({(s.noun, s.colors) for s in subjects}) == 1 and len({s.shape for s in subjects}) == 4


def test_distances_are_distances() -> None:
    p = np.random.default_rng(0).normal(size=(3, 200)).astype(np.float32)
    ball, rod = sphere((0, 1, 0), 0.5), capsule((0, 0, 0), (1, 0, 0), 0.2)
    assert np.allclose(ball(*p), np.linalg.norm(p - np.array([[0], [1], [0]]), axis=0) - 0.5, atol=1e-5)
    assert np.allclose(union(ball, rod)(*p), np.minimum(ball(*p), rod(*p)))
    assert (blend(0.1, ball, rod)(*p) <= union(ball, rod)(*p) + 1e-6).all()
