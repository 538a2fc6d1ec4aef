"""The prompt lists: as published, for the right kind of subject, and apart from those that choose a checkpoint."""

import pytest

from dreambooth.core.errors import SettingError
from dreambooth.evaluation import protocol
from dreambooth.evaluation.protocol import (
    Prompt,
    application,
    dreambench,
    held_out,
    is_live,
    of_file,
    some,
    toybox_suite,
    without_identifier,
)
from dreambooth.toybox.world.scene import ACCESSORIES, CONTEXTS


def test_dreambenchs_lists_have_25_prompts_each():
    objects, live = dreambench("backpack", live=False), dreambench("dog", live=True)
    assert len({p.text for p in objects}) == len({p.text for p in live}) == 25
    kinds = [[p.kind for p in suite].count(kind) for suite in (objects, live) for kind in ("place", "accessory", "property")]
    assert kinds == [20, 0, 5, 10, 10, 5]
    assert objects[0].text == "a [V] backpack in the jungle" and objects[-1].text == "a cube shaped [V] backpack"
    assert live[11].text == "a [V] dog wearing a santa hat" and live[18].text == "a [V] dog wearing a yellow shirt"


@pytest.mark.parametrize(
    ("noun", "live"),
    [("dog", True), ("cat", True), ("corgi dog", True), ("person", True), ("toy", False), ("stuffed animal", False),
     ("bear plushie", False), ("teapot", False), ("dog toy", False), ("toy dog", False)],
)  # fmt: skip
def test_the_list_follows_the_noun(noun, live):
    assert is_live(noun) == live


def test_the_identifier_is_taken_out_cleanly():
    assert Prompt("a [V] dog on the beach").plain == "a dog on the beach"
    assert without_identifier("a red [V] dog") == "a red dog"
    assert without_identifier("a [V] umbrella") == "an umbrella" and without_identifier("an [V] dog") == "a dog"
    assert without_identifier("a house in the style of [V]") == "a house"
    assert without_identifier("a photo of sks dog", "sks") == "a photo of dog"
    assert without_identifier("a bdc bfc bgf umbrella, bdc", "bdc bfc bgf") == "an umbrella, bdc", "of several words all go"
    assert without_identifier("a dog on an hour") == "a dog on an hour", "prompts without it stay as they are"


def test_the_toyboxs_suite_is_its_world():
    places = {p.text.removeprefix("a [V] robot ") for p in toybox_suite("robot", live=False) if p.kind == "place"}
    assert places == set(CONTEXTS.values())
    assert set(protocol.TOYBOX_ACCESSORIES) == set(ACCESSORIES.values())
    assert {p.kind for p in toybox_suite("dog", live=True)} == {"place", "accessory", "property"}


@pytest.mark.parametrize("toybox", [True, False])
def test_choosing_and_reporting_share_no_prompt(toybox):
    suites = [p.text for live in (True, False) for p in (*dreambench("dog", live=live), *toybox_suite("dog", live=live))]
    suites += [p.text for name in APPLICATIONS for p in application(name, "dog", live=True)]
    assert not {p.text for p in held_out("dog", toybox=toybox)} & set(suites)


APPLICATIONS = (
    "recontextualisation", "art_rendition", "novel_view", "property_modification", "accessorisation", "expression", "comics",
)  # fmt: skip


@pytest.mark.parametrize("name", APPLICATIONS)
def test_every_application_names_the_subject(name):
    prompts = application(name, "vase", live=False)
    assert prompts and all("[V] vase" in p.text for p in prompts)


def test_fewer_prompts_keep_every_kind():
    few = some(dreambench("dog", live=True), 5)
    assert len(few) == 5 and {p.kind for p in few} == {"place", "accessory", "property"}
    assert some(few, None) == few and len(some(few, 1)) == 1 and some(few, 99) == few


def test_a_file_that_never_names_the_subject_is_refused():
    with pytest.raises(SettingError, match=r"no prompt holds \[V\]"):
        of_file(["a dog on the beach"])
    assert of_file(["a [V] dog", "a dog"])[1].plain == "a dog"
