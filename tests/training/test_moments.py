"""When a run is saved and which checkpoints stay: by itself at each quarter and every ten minutes, or as diffusers' scripts do it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dreambooth.core.errors import Interrupted, RunError
from dreambooth.families import StableDiffusion
from dreambooth.run.plan import checkpoint_bytes
from dreambooth.run.train import train
from dreambooth.setup.config import TrainConfig, resolve
from dreambooth.training.moments import Moments
from dreambooth.training.records import Message, Saved
from dreambooth.training.state import checkpoints, step_of
from tests.training.runs import config, same_files, weights

FAST = {"with_prior_preservation": False, "method": "lora", "checkpointing_steps": None}
HERE = Path(__file__).parents[2]


def steps_left(run: Path) -> set[int]:
    return set(map(step_of, checkpoints(run)))


def drain(wanted: TrainConfig, **options) -> list[int]:
    """Train; the updates after which a checkpoint was saved."""
    return [record.step for record in train(wanted, **options) if isinstance(record, Saved) and record.path.name.startswith("checkpoint-")]


@pytest.mark.parametrize(("total", "saved"), [(1, [1]), (3, [1, 2, 3]), (7, [2, 4, 6, 7]), (450, [113, 225, 338, 450])])
def test_a_run_left_to_itself_is_saved_at_each_quarter_and_at_its_end(total, saved):
    moments = Moments(None, limit=None, total=total)
    assert [step for step in range(1, total + 1) if moments.due(step)] == saved and moments.limit == 2


def test_a_short_run_leaves_its_last_two_checkpoints(pipelines, tmp_path):
    wanted = config(pipelines("stable_diffusion"), root=tmp_path, output_dir=tmp_path / "run", max_train_steps=5, **FAST)
    assert drain(wanted) == [2, 3, 4, 5] and steps_left(tmp_path / "run") == {4, 5}


@pytest.mark.parametrize(
    ("every", "limit", "best", "left"),
    [
        (None, None, None, {6, 7}), (None, None, 2, {2, 6, 7}), (None, None, 6, {6, 7}), (None, 1, 4, {4, 7}), (None, 3, None, {4, 6, 7}),
        (2, None, None, {2, 4, 6}), (2, 1, None, {6}), (2, 2, 3, {3, 4, 6}), (2, 2, 5, {4, 5, 6}), (2, 1, 2, {2, 6}),
    ],
)  # fmt: skip
def test_the_newest_stay_and_the_best_and_of_steps_by_hand_all(tmp_path, every, limit, best, left):
    moments = Moments(every, limit=limit, total=7)
    for step in range(1, 8):
        if moments.due(step) or step == best:
            written = made_up(tmp_path, step)
            moments.prune(tmp_path, newest=written, best=tmp_path / f"checkpoint-{best}" if best and step >= best else None)
    assert steps_left(tmp_path) == left


def test_a_run_that_went_back_keeps_what_it_has_just_written(tmp_path):
    for step in (3, 6, 9):
        made_up(tmp_path, step)
    Moments(None, limit=None, total=12).prune(tmp_path, newest=made_up(tmp_path, 4), best=None)
    assert steps_left(tmp_path) == {4, 9}


def made_up(run: Path, step: int) -> Path:
    """A checkpoint's folder, as far as its name and its state tell."""
    state = run / f"checkpoint-{step}" / "training_state"
    state.mkdir(parents=True)
    (state / "state.json").write_text("{}")
    return state.parent


@pytest.mark.parametrize(("kind", "every"), [("full", 500), ("lora", 500), ("loha", 500), ("custom_diffusion", 250)])
def test_the_preset_saves_when_the_scripts_do_and_deletes_nothing(kind, every):
    loop = resolve(TrainConfig.parse({"preset": "diffusers", "method": {"kind": kind}}), StableDiffusion).loop
    moments = loop.moments(2 * every + 1)
    assert [step for step in range(1, 2 * every + 2) if moments.due(step)] == [every, 2 * every]
    assert moments.limit is None and not moments.overdue()


@pytest.mark.parametrize("settings", [{"method": "full"}, {"lora_dropout": 0.1, "use_ema": True}], ids=["full", "average"])
def test_the_clock_decides_when_to_save_and_nothing_else(pipelines, tmp_path, monkeypatch, settings):
    base = {"root": tmp_path, "max_train_steps": 7, "log_interval": 3, **FAST, **settings}
    model = pipelines("stable_diffusion")
    assert drain(config(model, output_dir=tmp_path / "never", **{**base, "checkpointing_steps": 100})) == []
    monkeypatch.setattr("dreambooth.training.moments.MINUTES", 0)
    assert drain(config(model, output_dir=tmp_path / "always", **base)) == list(range(1, 8))
    same_files(weights(tmp_path / "never"), weights(tmp_path / "always"))
    output = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("never", "always")]
    one, two = ([{k: v for k, v in json.loads(line).items() if k != "images_per_second"} for line in lines] for lines in output)
    assert one == two, "what is told of the training does not hang on the clock either"
    with pytest.raises(Interrupted):
        drain(config(model, output_dir=tmp_path / "cut", **base), stop=lambda: (tmp_path / "cut" / "checkpoint-3").is_dir())
    monkeypatch.undo()
    monkeypatch.setenv("DREAMBOOTH_CACHE", str(tmp_path / "cache"))
    drain(config(model, output_dir=tmp_path / "cut", resume_from_checkpoint="checkpoint-3", **base))
    same_files(weights(tmp_path / "never"), weights(tmp_path / "cut"))


def test_ten_minutes_count_from_the_last_saving(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("dreambooth.training.moments.time.monotonic", lambda: now[0])
    moments = Moments(None, limit=None, total=1000)
    now[0] = 599.0
    assert not moments.overdue()
    now[0] = 600.0
    assert moments.overdue()
    moments.saved()
    assert not moments.overdue()
    now[0] = 1e6
    assert moments.overdue() and not Moments(100, limit=None, total=1000).overdue()


@pytest.mark.parametrize(("first", "saved"), [("0", "1 2 3 4 5"), ("10", "2 3 4 5")])
def test_of_several_processes_the_first_ones_clock_decides(pipelines, tmp_path, first, saved):
    """Each process sees another time; if they did not agree, one would wait for the others at a saving that they know nothing of."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(29500 + os.getpid() % 400),
        "-m", "tests.training.two", "clocks", str(pipelines("stable_diffusion")), str(tmp_path), first,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": "."})
    assert done.returncode == 0, done.stderr[-3000:]
    output = [(tmp_path / f"rank{rank}.txt").read_text() for rank in (0, 1)]
    assert output == [saved, saved] and steps_left(tmp_path / "out") == {4, 5}


@pytest.mark.parametrize(
    "settings",
    [{"method": "full"}, {"method": "lora", "rank": 64}, {"method": "full", "use_ema": True}, {"method": "full", "optimizer": "prodigy"}],
    ids=["full", "lora", "average", "prodigy"],
)
def test_the_plan_says_what_stays_and_its_bytes(pipelines, tmp_path, settings):
    if settings.get("optimizer") == "prodigy":
        pytest.importorskip("prodigyopt")
    given = {**FAST, "max_train_steps": 2, **settings, **({"learning_rate": 1.0} if "optimizer" in settings else {})}
    wanted = config(pipelines("stable_diffusion"), root=tmp_path, output_dir=tmp_path / "run", **given)
    output = "\n".join(record.text for record in train(wanted) if isinstance(record, Message))
    (line,) = [line for line in output.splitlines() if line.strip().startswith("checkpoints")]
    assert "each quarter" in line and "10 minutes" in line and "newest 2" in line and "at most 2 of" in line
    files = [path.stat().st_size for path in (tmp_path / "run" / "checkpoint-2").rglob("*.safetensors")]
    assert sum(files) == pytest.approx(checkpoint_bytes(wanted, _learning(output)), rel=0.15)


def _learning(output: str) -> int:
    (line,) = [line for line in output.splitlines() if line.strip().startswith("method")]
    return int(line.split(": ")[1].split(" ")[0].replace(",", ""))


def test_a_disk_without_room_for_what_is_kept_is_refused_before_any_work(pipelines, tmp_path, monkeypatch):
    given = {"checkpointing_steps": None, "max_train_steps": 8, "class_data_dir": tmp_path / "class", "output_dir": tmp_path / "run"}
    one = 12 * _learning(_plan(config(pipelines("stable_diffusion"), root=tmp_path, **{**given, "output_dir": tmp_path / "other"})))
    shutil.rmtree(tmp_path / "class", ignore_errors=True)
    whole = sum(path.stat().st_size for path in pipelines("stable_diffusion").rglob("*.safetensors"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=whole + 3 * one - one // 2))
    with pytest.raises(RunError, match="--checkpoints_total_limit 1"):
        drain(config(pipelines("stable_diffusion"), root=tmp_path, **given))
    assert not list(tmp_path.glob("class/*")) and not list((tmp_path / "run").glob("checkpoint-*"))
    assert drain(config(pipelines("stable_diffusion"), root=tmp_path, **given, checkpoints_total_limit=1)) == [2, 4, 6, 8]


def test_a_run_that_goes_on_needs_no_room_for_the_checkpoints_that_it_has(pipelines, tmp_path, monkeypatch):
    given = {**FAST, "method": "full", "max_train_steps": 8, "output_dir": tmp_path / "run"}
    with pytest.raises(Interrupted):
        drain(config(pipelines("stable_diffusion"), root=tmp_path, **given), stop=lambda: (tmp_path / "run" / "checkpoint-4").is_dir())
    one = sum(path.stat().st_size for path in (tmp_path / "run" / "checkpoint-4").rglob("*.safetensors"))
    whole = sum(path.stat().st_size for path in pipelines("stable_diffusion").rglob("*.safetensors"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=whole + one + one // 2))
    assert drain(config(pipelines("stable_diffusion"), root=tmp_path, resume_from_checkpoint="latest", **given)) == [6, 8]


def _plan(wanted: TrainConfig) -> str:
    """What a run says before it begins to work."""
    records = train(wanted)
    for record in records:
        if isinstance(record, Message) and "checkpoints" in record.text:
            records.close()
            return record.text
    raise AssertionError("no plan")
