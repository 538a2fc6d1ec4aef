"""Lines to type next: a shell reads from them what was meant."""

from pathlib import Path

import pytest

from dreambooth.setup.commands import best_words, draw_command

RUN = {
    "instance_prompts": ["a photo of sks dog on a red sofa", "a sks dog"],
    "identifier": "sks",
    "step": 450,
    "result_step": 450,
}


@pytest.mark.parametrize(
    ("folder", "typed_name"), [("my-dog", "my-dog"), ("my dog", '"my dog"'), ("dogs/$HOME", "'dogs/$HOME'"), ("--run", "./--run")]
)
def test_the_next_line_draws_the_result_by_the_shortest_name_of_the_subject(folder, typed_name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert draw_command(Path(folder), RUN) == f'dreambooth generate {typed_name} "a [V] dog on the beach"'


def test_where_another_step_is_the_best_the_line_draws_that_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, record = Path("my-dog"), RUN | {"choice": {"step": 300, "why": "Step 300 is best.", "last": 450}}
    assert best_words(run, record) == 'Step 300 is best. Use it: dreambooth generate my-dog@300 "a [V] dog on the beach"'
    assert "Use it" not in best_words(run, record | {"result_step": 300}) and "@" not in draw_command(run, record | {"result_step": 300})
    (tmp_path / "my-dog@300").mkdir()
    assert draw_command(run, record).startswith("dreambooth generate my-dog/checkpoint-300 "), "the short name is another folder's"


def test_a_folder_below_the_working_folder_is_named_from_there_and_another_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert draw_command(tmp_path / "my-dog", RUN).startswith("dreambooth generate my-dog ")
    assert draw_command(tmp_path.parent / "my-dog", RUN).startswith(f"dreambooth generate {tmp_path.parent}/my-dog ")
    assert draw_command(tmp_path / "my-dog", RUN | {"choice": {"step": 300}}).startswith("dreambooth generate my-dog@300 ")


def test_a_subject_that_is_known_by_long_captions_alone_is_named_by_its_class(tmp_path):
    captions = {"instance_prompts": ["a sks dog " + "that lies on a red sofa " * 5], "class_prompts": ["a dog"]}
    assert draw_command(tmp_path, RUN | captions).endswith('"a [V] dog on the beach"')
    assert draw_command(tmp_path, RUN | captions | {"class_prompts": []}).endswith('"a [V] on the beach"')
