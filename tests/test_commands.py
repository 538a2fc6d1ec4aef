"""Lines to type next: a shell reads from them what was meant."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreambooth.commands import best_words, draw_command, typed

RUN = {
    "instance_prompts": ["a photo of sks dog on a red sofa", "a sks dog"],
    "identifier": "sks",
    "step": 450,
    "result_step": 450,
}


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_a_shell_reads_back_every_word(words):
    assert shlex.split(typed(*words)) == words


@pytest.mark.parametrize("text", ["a dog", "x;y", "für Elise", "~/runs", "*", "a & b"])
def test_ordinary_words_get_the_quotes_that_every_shell_has(text):
    assert typed("dreambooth", text) == f'dreambooth "{text}"'


@pytest.mark.parametrize(("folder", "typed_name"), [("my-dog", "my-dog"), ("my dog", '"my dog"'), ("dogs/$HOME", "'dogs/$HOME'")])
def test_the_next_line_draws_the_result_by_the_shortest_name_of_the_subject(folder, typed_name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert draw_command(tmp_path.__class__(folder), RUN) == f'dreambooth generate {typed_name} "a [V] dog on the beach"'


def test_where_another_step_is_the_best_the_line_draws_that_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, record = tmp_path.__class__("my-dog"), RUN | {"choice": {"step": 300, "why": "Step 300 is best.", "last": 450}}
    assert best_words(run, record) == 'Step 300 is best. Use it: dreambooth generate my-dog@300 "a [V] dog on the beach"'
    assert "Use it" not in best_words(run, record | {"result_step": 300}) and "@" not in draw_command(run, record | {"result_step": 300})
    (tmp_path / "my-dog@300").mkdir()
    assert draw_command(run, record).startswith("dreambooth generate my-dog/checkpoint-300 "), "the short name is another folder's"
