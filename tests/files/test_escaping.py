"""Words of other people in CSV, Markdown and Python: shown as they are, and doing nothing."""

import ast
import csv
import io
import re
from importlib.resources import files

import pytest
import yaml

from dreambooth.bench.tables.document import Document
from dreambooth.bench.tables.text import as_markdown
from dreambooth.evaluation.results import as_csv
from dreambooth.files.escaping import cell, csv_text, from_cell, markdown, python_text
from dreambooth.files.table import read_table
from dreambooth.run.card import card
from tests import tiny
from tests.training.runs import config

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", ' =HYPERLINK("x")', "＝1+1", "－1a", "-", "=", "-dog"]
NUMBERS = ["-0.5", "+3", "-1e-05", "0.25", "-12", "+.5", "1e9"]
WORDS = ["a dog", "dog=cat", "3-5 photos", "a@b", "", "'quoted'"]
MENDED = ["'=1+1", "''@x", "'-0.5", "' =1"]
"""Words that look as if they had been mended already."""


@pytest.mark.parametrize("text", [*FORMULAS, *MENDED])
def test_a_cell_that_a_spreadsheet_would_compute_is_words(text):
    ((written,),) = csv.reader(io.StringIO(csv_text([[text]])))
    assert written == f"'{text}" and from_cell(written) == text


def test_a_cell_is_one_line():
    assert list(csv.reader(io.StringIO(csv_text([["a\r\nb", "\r=1", "c"]])))) == [["a b", "' =1", "c"]]


@pytest.mark.parametrize("value", [*NUMBERS, *WORDS, 3, -3, -0.5, None])
def test_numbers_and_other_words_stay_as_they_are(value):
    assert cell(value) == value and from_cell(str(value)) == str(value)


@pytest.mark.parametrize("text", [*FORMULAS, *MENDED, *NUMBERS, *WORDS])
def test_what_a_spreadsheet_has_saved_again_is_read_as_it_was_written(text, tmp_path):
    (tmp_path / "table.csv").write_text(csv_text([["name", "other"], [text, "x"]]))
    ((_, row),) = read_table(tmp_path / "table.csv", "table", needed=("name",))
    assert row["name"] == text.strip()


@pytest.mark.parametrize("rater", ["=1+1", "-ann", "@bob", "'=x"])
def test_the_questionnaire_writes_cells_as_the_program_does(rater):
    """Its JavaScript and `escaping.py` hold one pattern."""
    page = (files("dreambooth.study") / "questionnaire.html").read_text()
    pattern = re.search(r"const plain = .*?/\^(.*?)/u\.test", page)
    assert pattern and re.match(pattern[1], rater) and cell(rater) == f"'{rater}"


def test_a_prompt_in_the_table_of_scores_is_no_formula():
    entry = {"prompt": '=HYPERLINK("http://x","a [V] dog")', "kind": "@place", "scores": {"dino": {"value": -0.25}}, "untuned": {}}
    rows = list(csv.reader(io.StringIO(as_csv({"untuned": {}, "per_prompt": [entry], "dino": {"value": 0.5}}))))
    assert rows[-1][:2] == ["'" + entry["prompt"], "'@place"] and "-0.25" in rows[-1]


@pytest.mark.parametrize("text", ['a "dog"', "a\ndog", "a \\dog", "```\nimport os", "a` dog", "\u2028", '"""', "ein Hündchen 犬 🐕"])
def test_a_text_in_python_is_one_line_and_itself(text):
    written = python_text(text)
    assert ast.literal_eval(written) == text and "\n" not in written and "`" not in written and written.count('"') >= 2


HOSTILE = "<script>alert(1)</script>\n---\ntags: [x]\n# [click](javascript:alert(1)) ![x](http://x) `rm` *b* |"


def test_a_line_of_markdown_holds_no_markup_of_others():
    line = markdown(HOSTILE)
    assert "\n" not in line and "<" not in line and all(line[place - 1] == "\\" for place, sign in enumerate(line) if sign in "[]()`*#|!")


def test_a_table_of_a_bench_makes_no_link_of_an_arms_name():
    text = as_markdown(Document(title=HOSTILE, toybox=False, sections=(), facts=((HOSTILE, "[0.5, 0.6]"),)))
    assert not re.search(r"(?<!\\)(\]\(|<)", text) and "[0.5, 0.6]" in text


def test_a_card_shows_hostile_words_and_stays_a_card(pipelines, tmp_path):
    from dreambooth.families import family_of
    from dreambooth.methods import LoRA
    from dreambooth.run.material import gather

    settings = config(pipelines("stable_diffusion"), root=tmp_path, method="lora").updated({("photos", "instance_prompt"): HOSTILE})
    family = family_of(settings.model).load(settings.model)
    text = card(settings, gather(settings, "sks"), LoRA().attach(family, ["unet"], seed=0), {"step": 1, "result_step": 1})
    before, head, *rest = text.split("---\n")
    assert (
        not before and yaml.safe_load(head)["instance_prompt"] == " ".join(HOSTILE.split()) and yaml.safe_load(head)["license"] == "other"
    )
    body = "---\n".join(rest)
    prose, code = body.split("```python\n")[0], body.split("```python\n")[1].split("```")[0]
    assert "<script" not in prose and "](javascript" not in prose
    assert ast.unparse(ast.parse(code)).count("pipe(") == 1 and "import os" not in code


def test_code_of_a_new_word_is_its_name_and_nothing_else(pipelines):
    from dreambooth.methods import TextualInversion

    family = tiny.load(pipelines("sdxl"))
    word = TextualInversion(placeholder_token='<x"+__import__("os").getcwd()+">', initializer_token="dog")
    code = word.attach(family, ["text_encoder"], seed=0).usage_snippet()
    calls = [node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert not any(isinstance(call, ast.Name) and call.id == "__import__" for call in calls)
