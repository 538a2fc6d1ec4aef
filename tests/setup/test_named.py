"""RUN@300 and RUN@best: checkpoints by name, whatever the folders are called."""

import json
from pathlib import Path

import pytest

from dreambooth.core.errors import SettingError
from dreambooth.setup.open import named


def made_up(folder: Path, steps=(100, 225, 300), **record) -> Path:
    """A run's folder, as far as names go."""
    for step in steps:
        state = folder / f"checkpoint-{step}" / "training_state"
        state.mkdir(parents=True)
        (state / "state.json").write_text("{}")
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text("{}")
    (folder / "run.json").write_text(json.dumps({"state": "finished", "step": 450, "result_step": 450, **record}))
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("dog", "dog"), ("dog@300", "dog/checkpoint-300"), ("./dog/@300", "dog/checkpoint-300"), ("dog@300/", "dog/checkpoint-300"),
        ("~/dog@100", "dog/checkpoint-100"), ("dog@best", "dog/checkpoint-225"), ("dog@450", "dog"),
        ("dog/checkpoint-300", "dog/checkpoint-300"),
        ("owner/name", "owner/name"), ("me@home", "me@home"), ("me@home@225", "me@home/checkpoint-225"),
        ("me@home@best", "me@home/checkpoint-225"),
        ("dog@7", "dog@7"), ("dog@7@300", "dog@7/checkpoint-300"), ("@300", "@300"),
    ],
)  # fmt: skip
def test_what_a_name_means(tmp_path, name, folder):
    for run in ("dog", "me@home", "dog@7"):
        made_up(tmp_path / run, choice={"step": 225, "why": "", "last": 450})
    assert named(name).resolve() == (tmp_path / folder).resolve()


@pytest.mark.parametrize("which", ["200", "0", "451", "-100", "1e2", "latest", "checkpoint-300", "", "Best", "²"])
def test_a_checkpoint_that_is_not_there_is_refused_with_those_that_are(tmp_path, which):
    made_up(tmp_path / "my dog")
    (tmp_path / "my dog" / "checkpoint-200").mkdir()  # half written
    with pytest.raises(SettingError, match=r"^--lora: .*There are my dog@100, my dog@225, my dog@300, my dog@450\.$"):
        named(f"my dog@{which}", "--lora")


@pytest.mark.parametrize(
    ("steps", "record", "output"),
    [
        ((), {}, "--evaluate_every. There is dog@450."),
        ((100,), {"state": "interrupted", "choice": None}, "--evaluate_every. There is dog@100."),
        ((), {"state": "failed"}, "It has kept none."),
        (
            (100, 300),
            {"choice": {"step": 200, "why": "", "last": 300}},
            "step 200, is no longer there. There are dog@100, dog@300, dog@450.",
        ),
    ],
)
def test_a_best_that_nobody_knows_or_that_is_gone_is_refused(tmp_path, steps, record, output):
    made_up(tmp_path / "dog", steps, **record)
    with pytest.raises(SettingError) as refused:
        named("dog@best")
    assert refused.value.exit_code == 2 and output in str(refused.value)


def test_the_best_of_a_run_that_was_interrupted_is_known(tmp_path):
    made_up(tmp_path / "dog", state="interrupted", choice={"step": 300, "why": "", "last": 400})
    assert named("dog@best") == Path("dog/checkpoint-300")
    with pytest.raises(SettingError, match="no checkpoint of step 450"):
        named("dog@450")


@pytest.mark.parametrize("name", ["nowhere@300", "nowhere@best", "plain@best", "owner/model@12", "dog/checkpoint-300@best"])
def test_a_checkpoint_of_what_is_no_run_is_refused(tmp_path, name):
    made_up(tmp_path / "dog")
    (tmp_path / "plain").mkdir()
    with pytest.raises(SettingError, match=r"^run: .*(is no run|does not exist)"):
        named(name)
