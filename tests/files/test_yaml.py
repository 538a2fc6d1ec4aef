"""YAML as people write it: a value is what its flag would read, and what is wrong has a line and a column."""

import time
from itertools import pairwise
from typing import Any

import pytest

from dreambooth.bench.plan import read_plan
from dreambooth.core.errors import SettingError
from dreambooth.families import family_of
from dreambooth.files.yaml_file import read_yaml_file
from dreambooth.setup.config import dump, resolve, write_yaml
from dreambooth.setup.given import train_config


@pytest.fixture
def written(tmp_path):
    """What becomes of a text as YAML."""

    def read(text: str, name: str = "settings.yaml") -> Any:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_yaml_file(tmp_path / name, "--config")

    return read


@pytest.fixture
def config_of(tmp_path):
    """The configuration that a text of YAML makes."""

    def parse(text: str, **settings: Any):
        (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
        return train_config(config=tmp_path / "config.yaml", **settings)

    return parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("OFF", "OFF"), ("yes", "yes"), ("true", "true"), ("1e-4", "1e-4"), ("007", "007"), ("12:30", "12:30"),
        ("0x10", "0x10"), ("2024-05-01", "2024-05-01"), ("7e12345", "7e12345"),
        ("-.inf", "-inf"), ("'~'", "~"), ('""', ""), ("=", "="), ("!!str no", "no"),
        ("~", None), ("null", None), ("", None),
    ],
)  # fmt: skip
def test_a_plain_value_is_the_text_that_stands_there_and_only_nothing_is_nothing(written, text, value):
    assert written(f"name: {text}\n") == {"name": value}


def test_words_where_words_are_wanted_and_switches_where_switches_are(config_of):
    config = config_of("""
        loop: {mixed_precision: no, use_ema: off, max_train_steps: 1e3, deterministic: yes}
        optimization: {learning_rate: 1e-4}
        photos: {class_noun: on, identifier: 007, use_captions: n}
        model: {revision: 7e12345}
        output: {output_dir: 2024-05-01, report_to: tensorboard}
    """)
    loop, photos = config.loop, config.photos
    assert (loop.mixed_precision, loop.use_ema, loop.max_train_steps, loop.deterministic) == ("no", False, 1000, True)
    assert (photos.class_noun, photos.identifier, photos.use_captions) == ("on", "007", False)
    assert config.optimization.learning_rate == 1e-4 and config.model.revision == "7e12345"
    assert config.output.output_dir == "2024-05-01" and config.output.report_to == ("tensorboard",)


@pytest.mark.parametrize("text", ["tensorboard, wandb", "[tensorboard, wandb]", "\n    - tensorboard\n    - wandb"])
def test_one_word_or_several_with_commas_are_a_list(config_of, text):
    assert config_of(f"output:\n  report_to: {text}\n").output.report_to == ("tensorboard", "wandb")


def test_a_branch_or_a_list_whose_lines_are_all_commented_out_is_left_out(config_of):
    text = "method:\n#  kind: lora\nloop:\n#  seed: 1\noutput:\n  report_to:\n#    - wandb\n"
    assert config_of(text, rank=None) == train_config()
    assert config_of(text, method="lora", seed=3).loop.seed == 3


def test_a_value_that_is_left_out_where_one_is_needed_is_named(config_of):
    with pytest.raises(SettingError, match="--train_batch_size: has no value"):
        config_of("loop:\n  train_batch_size:\n")


def test_a_complete_configuration_is_read_back_as_it_was_written(tmp_path):
    given = train_config(
        class_noun="no", identifier="~", instance_prompt="a: [V] # no", learning_rate=1e-5, output_dir="a\udce9\nb", report_to=["wandb"],
    )  # fmt: skip
    config = resolve(given, family_of(given.model))
    (tmp_path / "config.yaml").write_text(write_yaml(config), encoding="utf-8")
    assert dump(train_config(config=tmp_path / "config.yaml")) == dump(config)


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("loop:\n\tseed: 1\n", 2, 1, "tab"), ("loop:\n  seed:\t1\n", 2, 8, "tab"), ("a: [1, 2\nb: 3", 2, 2, "expected"),
        ("a: 1\nb:\n  c: 2\n  d: 3\n  c: 4\n", 5, 3, "'c' stands here and in line 3"),
        ('a: 1\n"a": 2', 2, 1, "in line 1"), ("a: {b: 1, b: 1}", 1, 11, "in line 1"),
        ("a: 1\n---\na: 2\n", 2, 1, "second document"), ("a: 1\n: 2", 2, 1, "expected"), ("? [a]\n: 1", 1, 3, "a name is missing"),
        ("a: !!python/object/apply:os.system [ls]", 1, 4, "tag"), ("a: !secret 1", 1, 4, "tag"), ("a: !!binary aGk=", 1, 4, "tag"),
        ("a: *b", 1, 4, "undefined alias"), ("a: &b 1\nc: &b 2", 2, 4, "named before"), ("a: b: c", 1, 5, "not allowed here"),
        ("a: &b [*b]", 1, 4, "nested too deeply"), ("<<: 3", 1, 5, "needs a mapping"), ("a: \x07", 1, 4, "x07"),
        ("name: 'a", 1, 9, "unexpected end of stream"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_a_line_and_a_column(written, text, line, column, reason):
    with pytest.raises(SettingError) as raised:
        written(text)
    assert f"settings.yaml, line {line}, column {column}: " in raised.value.reason and reason in raised.value.reason


def test_aliases_and_merged_mappings_are_what_they_stand_for(written):
    printed = written("base: &base {rank: 4, use_dora: no}\none: *base\ntwo: {<<: *base, rank: 8}\nthree: {<<: [{rank: 1}, *base]}")
    assert printed["one"] == printed["base"] and printed["two"] == {"rank": "8", "use_dora": "no"}
    assert printed["three"] == {"rank": "1", "use_dora": "no"}


LINES = "abcdefghij"
NINE = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise(LINES))
MERGED = "".join(f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in pairwise(LINES))


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1]\n" + NINE, "a: &a {x: 1}\n" + MERGED, "[" * 100_000, "{a: " * 30_000, "- " * 60_000, "- 1\n" * 25_000,
        "a: " + "x" * 200_000,
    ],
    ids=["aliases", "merges", "brackets", "braces", "dashes", "many", "long"],
)  # fmt: skip
def test_what_stands_for_more_than_can_be_meant_is_refused_soon(written, text):
    began = time.perf_counter()
    with pytest.raises(SettingError, match=r"too deeply|too many values|too large"):
        written(text)
    assert time.perf_counter() - began < 20


def test_a_plan_of_a_bench_is_read_in_the_same_way(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_bytes(
        b"\xef\xbb\xbf"
        + b"""
metrics: dino
notes: one, two
settings: &all {mixed_precision: no}
evaluation:
arms:
  no: {settings: {<<: *all, train_text_encoder: off}}
  rates: {sweep: {learning_rate: [1e-4, 5e-5]}, settings: {evaluate_every: 5, stop_early: yes}}
  one: {sweep: {max_train_steps: 1e3}, num_photos: 3}
"""
    )
    plan = read_plan(str(path))
    assert plan.metrics == ("dino",) and plan.notes == ("one, two",) and plan.evaluation == {}
    assert list(plan.lines()) == ["no", "rates, learning_rate 1e-4", "rates, learning_rate 5e-5", "one, max_train_steps 1e3"]
    assert plan.lines()["one, max_train_steps 1e3"].num_photos == 3
    for text, printed in (("arms:\n\ta: {}", "line 2, column 1"), ("arms: {a: {}}\narms: {b: {}}", "line 1"), ("- a\n", "no plan")):
        path.write_text(text)
        with pytest.raises(SettingError, match=printed):
            read_plan(str(path))
    path.write_text("arms: {a: {settings: {evaluate_every: 5, stop_early: no}}}")
    with pytest.raises(SettingError, match="evaluate_every: all arms are evaluated alike"):
        read_plan(str(path))
