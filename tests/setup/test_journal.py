"""records.jsonl holds what happened; what a later start went back behind no longer counts."""

import json

from dreambooth.evaluation.live import read_curve
from dreambooth.reporting.pictures import Subject
from dreambooth.reporting.progress import ProgressPage
from dreambooth.setup.journal import METRICS, RECORDS, Journal, metric_rows, read_records
from dreambooth.setup.record import RunRecord
from dreambooth.setup.states import State, Status
from dreambooth.training.records import Message, Preview, Progress, Saved, Scores, Step


def start(folder, step, *records):
    journal = Journal(folder, step)
    for record in records:
        journal.take(record)
    journal.close()
    return journal


def steps(folder):
    return [row["step"] for row in metric_rows(folder)]


def test_every_kind_of_record_is_kept_and_files_are_named_from_the_run(tmp_path):
    preview = Preview(2, (tmp_path / "samples" / "0.png",), ("a dog",))
    scores = Scores(2, 4, {"dino": 0.5, "clip_t": float("nan")})
    journal = Journal(tmp_path, 0)
    for record in (
        Message("Loading"),
        Progress("encoding", 1, 1),
        Step(1, 4),
        Step(2, 4, {"loss": 1.0}),
        scores,
        preview,
        Saved(2, tmp_path),
    ):
        journal.take(record)
    journal.end(Status(State.FINISHED, step=2))
    journal.close()
    lines = [json.loads(line, parse_constant=lambda name: 1 / 0) for line in (tmp_path / RECORDS).read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["start", "message", "progress", "step", "scores", "preview", "saved", "end"]
    assert lines[5]["paths"] == ["samples/0.png"] and lines[6]["path"] == "."
    assert metric_rows(tmp_path) == [{"step": 2, "loss": 1.0}, {"step": 2, "dino": 0.5}]


def test_a_start_from_an_earlier_checkpoint_leaves_out_what_came_after_it(tmp_path):
    start(tmp_path, 0, *(Step(n, 9, {"loss": float(n)}) for n in range(1, 6)))
    start(tmp_path, 3, Step(4, 9, {"loss": 40.0}))
    assert [(row["step"], row["loss"]) for row in metric_rows(tmp_path)] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]
    assert len((tmp_path / RECORDS).read_text().splitlines()) == 8, "nothing is rewritten"
    assert [json.loads(line)["step"] for line in (tmp_path / METRICS).read_text().splitlines()] == [1, 2, 3, 4]


def test_a_torn_line_costs_itself_alone(tmp_path):
    start(tmp_path, 0, Step(1, 9, {"loss": 1.0}))
    with (tmp_path / RECORDS).open("a") as file:
        file.write('{"kind": "step", "step": 2, "val')
    start(tmp_path, 2, Step(3, 9, {"loss": 3.0}))
    assert steps(tmp_path) == [1, 3] and [line["kind"] for line in read_records(tmp_path)][-2:] == ["start", "step"]


def test_a_run_of_an_earlier_version_goes_on_with_its_numbers(tmp_path):
    (tmp_path / METRICS).write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 2.0}\n{"step": 3, "lo')
    assert steps(tmp_path) == [1, 2]
    start(tmp_path, 1, Step(2, 9, {"loss": 5.0}))
    assert [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()] == [
        {"step": 1, "loss": 1.0}, {"step": 2, "loss": 5.0},
    ]  # fmt: skip
    assert steps(tmp_path) == [1, 2]


def test_progress_is_written_at_its_ends_and_not_at_every_picture(tmp_path):
    start(tmp_path, 0, *(Progress("drawing", n, 500) for n in range(501)))
    written = [line["done"] for line in read_records(tmp_path) if line["kind"] == "progress"]
    assert written[0] == 0 and written[-1] == 500 and len(written) < 10


def test_every_reader_of_curves_leaves_out_what_a_later_start_went_back_behind(tmp_path):
    passes = [Scores(n, 9, {"dino": n / 10, "clip_t": 0.3}) for n in (0, 3, 6)]
    start(tmp_path, 0, *passes, Step(6, 9, {"loss": 1.0}))
    start(tmp_path, 3, Step(4, 9, {"loss": 2.0}))
    assert sorted(read_curve(tmp_path)) == [0, 3]
    page = ProgressPage(RunRecord(tmp_path, {}, writes=False), subject=Subject(None, "dog"), title="a dog", total=9)
    page.resume(3)
    assert [row["step"] for row in page.rows] == [0, 3]


def test_lines_of_records_that_are_none_are_left_out_and_the_others_stay(tmp_path):
    start(tmp_path, 0, Step(1, 9, {"loss": 1.0}))
    bad = [
        {"step": 2, "values": {"loss": 1.0}}, {"kind": "step", "step": "two", "values": {}}, {"kind": "scores", "step": 2},
        {"kind": "step", "values": {"loss": 1.0}}, {"kind": "step", "step": 2, "values": [1]}, {"kind": ["step"], "step": 2},
        {"kind": "step", "step": 2, "values": {"loss": "low"}}, {"kind": "scores", "step": 2, "values": {"dino": 1e300}}, [1], None,
    ]  # fmt: skip
    with (tmp_path / RECORDS).open("a") as file:
        file.write("\n".join(map(json.dumps, bad)) + "\n")
    start(tmp_path, 1, Step(2, 9, {"loss": 3.0}))
    assert metric_rows(tmp_path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 3.0}]
