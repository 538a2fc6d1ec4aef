"""A bench from end to end on a tiny pipeline: what it leaves, what it does not do twice, and what goes wrong beside it."""

import errno
import json
import shutil
import signal
from pathlib import Path

import pytest
from PIL import Image

from dreambooth.bench import run
from dreambooth.bench import work as module
from dreambooth.bench.estimate import estimate
from dreambooth.bench.expand import expand
from dreambooth.bench.job import Failed, Finished, JobProgress, never
from dreambooth.bench.keep import Kept
from dreambooth.bench.progress import standings
from dreambooth.bench.rows import find_row
from dreambooth.bench.run import AlreadyDone, Ended, bench, drawn_anew
from dreambooth.bench.work import work
from dreambooth.cli import main
from dreambooth.cli.bench import interruptible
from dreambooth.core.errors import Interrupted, RunError, SettingError
from dreambooth.evaluation import EvaluateConfig, Scored, evaluate
from dreambooth.files.locks import claimed
from dreambooth.photos.files import scan
from dreambooth.setup.given import from_arguments
from dreambooth.setup.states import State
from dreambooth.training.records import Message
from tests.bench.works import last


def ended(records) -> Ended:
    assert isinstance(records[-1], Ended)
    return records[-1]


def jobs_of(request):
    return [item for item in expand(request) if not isinstance(item, Failed)]


def test_every_job_is_one_row_with_scores_of_both_models_and_of_the_photos(finished):
    out, records = finished
    rows = {(row.arm, row.subject): row for row in ended(records).rows}
    assert set(rows) == {("with", "dog7"), ("with", "toy1"), ("without", "dog7"), ("without", "toy1"), ("described", "dog7")}
    assert len(list((out / "rows").glob("*.json"))) == 5
    row = rows["with", "dog7"]
    for scores in (row.scores, row.untuned):
        assert {"dino", "clip_i", "clip_t", "pres", "div"} <= scores.keys()
    assert row.real["dino"]["value"] < row.real["dino_with_self_pairs"]["value"]
    assert row.steps == 2 and row.settings["learning_rate"] == pytest.approx(5e-6) and row.protocol["prompts"] == 2
    assert row.untuned == rows["without", "dog7"].untuned and row.scores != rows["without", "dog7"].scores
    for paths in (*row.pictures.values(), *row.untuned_pictures.values()):
        assert len(paths) == 2 and all((out / path).is_file() for path in paths)
    assert row.pictures.keys() == row.untuned_pictures.keys() and (out / row.photo).is_file() and rows["described", "dog7"].photo


def test_those_who_watch_a_bench_read_what_became_of_every_job(finished):
    [standing] = standings(finished[0])
    states = {(arm, subject): job.state for (arm, subject, _), job in standing.jobs.items()}
    assert states.pop(("described", "toy1")) is State.FAILED
    assert len(states) == 5 and set(states.values()) == {State.FINISHED}
    assert all(find_row(finished[0], job.key) for job in standing.jobs.values() if job.state is State.FINISHED)


def test_what_cannot_be_described_fails_by_itself_and_is_reported(finished):
    failures = ended(finished[1]).failures
    assert [(f["arm"], f["subject"], f["kind"]) for f in failures] == [("described", "toy1", "request")]
    assert "no description of toy1" in failures[0]["reason"]
    assert len([r for r in finished[1] if isinstance(r, Failed)]) == 1


def test_models_are_gone_afterwards_and_class_images_and_untuned_pictures_were_drawn_once(finished):
    out, records = finished
    assert not list(out.glob("jobs/*/run")) and not list(out.glob("jobs/*/samples"))
    assert len(list((out / "shared" / "class_images").glob("*/*.png"))) == 2 * 2
    moved = [record for record in records if isinstance(record, JobProgress) and record.phase == "drawing the untuned model"]
    assert len({record.key for record in moved}) == 2  # one job for each class noun
    shared = [row.protocol.get("shared") for row in ended(records).rows if row.subject == "toy1"]
    assert {"untuned pictures": "6 were there already"} in shared


def test_started_again_it_draws_tables_and_does_nothing_else(copied, ask):
    before = {path: path.stat().st_mtime_ns for path in copied.glob("rows/*.json")}
    shutil.rmtree(copied / "tables")
    records = list(bench(ask()))
    assert not any(isinstance(record, Finished) for record in records) and len(ended(records).rows) == 5
    assert [record.count for record in records if isinstance(record, AlreadyDone)][-1] == 5  # so that a bar over all jobs is full
    assert {path: path.stat().st_mtime_ns for path in copied.glob("rows/*.json")} == before
    assert ended(records).tables and all(path.is_file() for path in ended(records).tables)


def test_another_plan_finds_the_same_job_under_its_own_words(copied, ask):
    records = list(bench(ask({"LoRA off": {}}, plan={"name": "other"})))
    assert not any(isinstance(record, Finished) for record in records)
    assert {(row.plan, row.arm) for row in ended(records).rows} == {("other", "LoRA off")}


def test_an_output_folder_may_be_moved(copied, ask, tmp_path):
    copied.rename(tmp_path / "elsewhere")
    records = list(bench(ask(output_dir=str(tmp_path / "elsewhere"))))
    assert not any(isinstance(record, Finished) for record in records)


@pytest.mark.parametrize(
    "change", [{"seeds": [1]}, {"num_images": 1}, {"training": {"learning_rate": 1e-4}}, {"training": {"dino_encoder": "none"}}]
)
def test_what_changes_the_scores_changes_the_key(change, ask):
    arms = {"with": {}}
    assert not {job.key for job in jobs_of(ask(arms))} & {job.key for job in jobs_of(ask(arms, **change))}


@pytest.mark.parametrize("change", [{"keep": "everything"}, {"training": {"device": "cpu"}}, {"training": {"log_interval": 3}}])
def test_what_does_not_change_the_scores_does_not_change_the_key(change, ask):
    arms = {"with": {}}
    assert {job.key for job in jobs_of(ask(arms))} == {job.key for job in jobs_of(ask(arms, **change))}


def test_masks_beside_the_photos_are_in_the_key_of_jobs_that_use_them_and_go_along_with_few_photos(ask, dataset):
    def keys():
        return {(job.arm, job.subject): job.key for job in jobs_of(ask(arms))}

    arms = {"masked": {"settings": {"masked_loss": True}, "num_photos": 2}, "plain": {}}
    (dataset / "dog7" / "masks").mkdir()
    for photo in scan(str(dataset / "dog7")).photos:
        mask = Image.new("L", Image.open(photo).size)
        mask.paste(255, (4, 4, 12, 12))
        mask.save(dataset / "dog7" / "masks" / f"{photo.stem}.bmp")
    before = keys()
    mask.paste(255, (0, 0, 3, 3))
    mask.save(dataset / "dog7" / "masks" / f"{photo.stem}.bmp")
    after = keys()
    assert {name for name in before if before[name] != after[name]} == {("masked", "dog7")}
    output = ended(list(bench(ask({"masked": arms["masked"]}, subjects=["dog7"]))))
    assert not output.failures and len(output.rows) == 1


def test_a_plan_needs_no_training_flags(tmp_path, capsys):
    assert main(["bench", "table4", "--subjects", "dog_spot", "--output_dir", str(tmp_path / "toy")]) == 2
    assert "--subjects: the toybox has no 'dog_spot'. Did you mean dog_spots?" in capsys.readouterr().err


def test_other_photos_are_another_job(ask, dataset):
    before = {job.subject: job.key for job in jobs_of(ask({"with": {}}))}
    (dataset / "dog7" / "0.png").unlink()
    after = {job.subject: job.key for job in jobs_of(ask({"with": {}}))}
    assert before["dog7"] != after["dog7"] and before["toy1"] == after["toy1"]


def test_scores_are_those_of_evaluate(ask, encoder_flags, tmp_path):
    (job,) = jobs_of(ask({"without": {"settings": {"with_prior_preservation": False}}}, subjects=["dog7"], keep="everything"))
    row = last(work(job, never))
    few = {"num_prompts": 2, "num_images": 2, "class_samples": 2, "output_dir": str(tmp_path / "evaluated")}
    output = list(evaluate(from_arguments(EvaluateConfig, {"run": str(Path(job.folder) / "run"), **encoder_flags, **few})))
    scored = output[-1]
    assert isinstance(scored, Scored)
    for name in ("dino", "clip_i", "clip_t", "clip_t_with_identifier", "pres", "div", "copying", "drift"):
        assert row.scores[name] == {k: v for k, v in scored.scores[name].items() if v is not None}, name
    assert row.untuned["dino"] == scored.scores["untuned"]["dino"] and row.kept_bytes > 100_000


def test_a_job_that_was_cut_short_goes_on_where_it_was(ask):
    arms = {"a": {"settings": {"with_prior_preservation": False, "checkpointing_steps": 1, "max_train_steps": 3}}}
    (job,) = jobs_of(ask(arms, subjects=["dog7"]))
    output = []

    def row_of(job, stop=never):
        moves = work(job, stop)
        while True:
            try:
                moved = next(moves)
            except StopIteration as done:
                return done.value
            output.append((moved.phase, moved.done))

    with pytest.raises(Interrupted):
        row_of(job, lambda: ("training", 2) in output)
    assert ("saving", 0) in output
    output.clear()
    part = json.loads((Path(job.folder) / "run" / "run.json").read_text())["seconds"]["training"]
    row = row_of(job)
    assert row.seconds["training"] > part > 0, "the time of both starts"
    assert [done for phase, done in output if phase == "training"] == [3] and row.steps == 3
    whole = ask(arms, subjects=["dog7"], output_dir=str(Path(job.folder).parents[1]) + "-whole")
    assert row_of(jobs_of(whole)[0]).scores == row.scores
    output.clear()
    assert row_of(job) == row and not output  # finished: its row is handed out again


def test_a_full_disk_fails_one_job_and_the_others_go_on(ask, monkeypatch):
    real = module.save_jpeg

    def full(path, image):
        if len(hits) < 1:
            hits.append(path)
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, image)

    hits = []
    monkeypatch.setattr(module, "save_jpeg", full)
    request = ask({"untuned": {"model": "untuned"}})
    records = list(bench(request))
    (failure,) = ended(records).failures
    assert failure["kind"] == "run" and "disk is full" in failure["reason"] and len(ended(records).rows) == 1
    assert not ended(list(bench(request))).failures


def test_a_subject_without_photos_and_an_absent_encoder_fail_their_jobs(ask, dataset):
    for photo in (dataset / "toy1").iterdir():
        photo.unlink()
    arms = {"untuned": {"model": "untuned"}}
    records = list(bench(ask(arms)))
    assert [(f["subject"], f["kind"]) for f in ended(records).failures] == [("toy1", "request")] and len(ended(records).rows) == 1
    records = list(bench(ask(arms, training={"dino_encoder": "nowhere/at-all"}, subjects=["dog7"])))
    assert "nowhere/at-all" in ended(records).failures[0]["reason"] and ended(records).failures[0]["kind"] == "request"


def test_an_encoder_that_was_left_out_leaves_its_metrics_undefined_and_says_why(ask):
    (row,) = ended(list(bench(ask({"untuned": {"model": "untuned"}}, subjects=["dog7"], training={"lpips_encoder": "none"})))).rows
    assert "div" not in row.scores and "lpips" in row.undefined["div"]


def test_a_damaged_row_is_reported_and_its_job_done_again(copied, ask, caplog):
    rows = sorted(copied.glob("rows/*.json"))
    before = {path: path.read_bytes() for path in rows}
    for damaged in (rows[0], copied / "jobs" / rows[0].stem / "row.json"):
        damaged.write_text('{"arm": 3}')
    records = list(bench(ask()))
    assert f"{rows[0]} is no row of a bench" in caplog.text
    assert len([record for record in records if isinstance(record, Finished)]) == 1 and len(ended(records).rows) == 5
    again, whole = json.loads(rows[0].read_bytes()), json.loads(before[rows[0]])
    assert again["scores"] == whole["scores"] and all(path.read_bytes() == before[path] for path in rows[1:])


def test_a_base_model_that_changes_meanwhile_leaves_no_row(ask, pipelines, tmp_path):
    shutil.copytree(pipelines("stable_diffusion"), tmp_path / "model")
    (job,) = jobs_of(
        ask({"untuned": {"model": "untuned"}}, subjects=["dog7"], training={"pretrained_model_name_or_path": str(tmp_path / "model")})
    )
    shutil.copytree(pipelines("v_prediction") / "scheduler", tmp_path / "model" / "scheduler", dirs_exist_ok=True)
    with pytest.raises(RunError, match="The base model or the encoders are not those that the bench was started with"):
        last(work(job, never))


def test_photos_that_change_meanwhile_leave_no_row(ask, dataset):
    (job,) = jobs_of(ask({"untuned": {"model": "untuned"}}, subjects=["dog7"]))
    Image.open(dataset / "dog7" / "1.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(dataset / "dog7" / "0.png")
    with pytest.raises(RunError, match="The photos are not those that the bench was started with"):
        last(work(job, never))


def test_an_absent_encoder_is_reported_before_anything_is_learned(ask):
    (failure,) = ended(list(bench(ask({"with": {}}, training={"clip_encoder": "nowhere/at-all"}, subjects=["dog7"])))).failures
    assert "nowhere/at-all" in failure["reason"]
    assert not list(Path(ask().config.output_dir).glob("jobs/*/run")) and not list(
        Path(ask().config.output_dir).glob("shared/class_images")
    )


def test_a_job_that_was_killed_while_its_model_was_taken_away_is_finished(ask, monkeypatch):
    """Row first, then the model: what is left of one is taken away at the next start."""
    (job,) = jobs_of(ask({"a": {"settings": {"with_prior_preservation": False}}}, subjects=["dog7"]))

    def killed(self, folder):
        (folder / "run" / "model_index.json").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(Kept, "prune", killed)
    with pytest.raises(KeyboardInterrupt):
        last(work(job, never))
    monkeypatch.undo()
    assert (Path(job.folder) / "run").is_dir()
    assert last(work(job, never)).kept_bytes == 0 and not (Path(job.folder) / "run").exists()


def test_how_an_untuned_model_is_drawn_is_in_its_key(ask):
    def keys(**training):
        (job,) = jobs_of(ask({"untuned": {"model": "untuned"}}, subjects=["dog7"], training=training))
        return job.key

    assert len({keys(), keys(mixed_precision="bf16"), keys(tokenizer_max_length=8)}) == 3
    assert keys() == keys(learning_rate=1e-3)


def test_tables_are_drawn_from_what_is_there_also_while_a_bench_is_at_work(copied, ask):
    next(copied.glob("rows/*.json")).unlink()
    with claimed(copied, "bench"):
        found = drawn_anew(ask())
    assert len(found.rows) == 4 and all(path.is_file() for path in found.tables)
    assert [f["reason"][:16] for f in found.failures] == ["description: the"] and found.waiting == 1
    output = (copied / "tables" / "p" / "bench.md").read_text()
    assert "1 job of the plan not done yet" in output and "4 finished, 1 failed, 1 not done yet" in output and "1 job failed" in output


def test_an_adapter_in_half_precision_is_examined_in_full(ask):
    arms = {"a": {"settings": {"method": "lora", "mixed_precision": "bf16", "with_prior_preservation": False}}}
    last = ended(list(bench(ask(arms, subjects=["dog7"], plan={"evaluation": {"mixed_precision": "no"}}))))
    assert not last.failures and len(last.rows) == 1


def test_arms_of_two_base_models_have_no_one_untuned_model(ask, pipelines):
    models = [str(pipelines("stable_diffusion")), str(pipelines("v_prediction"))]
    arms = {"{pretrained_model_name_or_path}": {"model": "untuned", "sweep": {"pretrained_model_name_or_path": models}}}
    last = ended(list(bench(ask(arms, subjects=["dog7"], training={"pretrained_model_name_or_path": None}))))
    assert len({row.base for row in last.rows}) == 2
    table = next(path for path in last.tables if path.name == "bench.md").read_text()
    assert "| untuned |" not in table and "The rows were not made alike".lower() in table.lower()


def test_a_full_disk_under_the_tables_loses_neither_rows_nor_what_failed(copied, ask, monkeypatch):
    def full(*_, **__):
        raise RunError("The disk is full.")

    monkeypatch.setattr(run, "write_tables", full)
    last = ended(list(bench(ask())))
    assert (len(last.rows), len(last.failures), last.tables, last.why_no_tables) == (5, 1, (), "The disk is full.")


def test_a_dry_run_names_a_subject_that_cannot_be_done_and_counts_the_others(ask, dataset, copied):
    for photo in (dataset / "toy1").iterdir():
        photo.unlink()
    (copied / "rows" / "damaged.json").write_text("{")
    output = "\n".join(estimate(ask({"other": {"settings": {"max_train_steps": 4}}})))
    assert "cannot be done: other, toy1" in output and "other: 1 to do, 0 done" in output


def test_a_dry_run_counts_what_jobs_share_and_what_stays_of_an_adapter(ask):
    def output(keep, **settings):
        arms = {"a": {"settings": {"method": "lora", "rank": 64, **settings}}}
        return "\n".join(estimate(ask(arms, subjects=["dog7"], keep=keep, class_samples=2000, training={"resolution": 64})))

    assert " KiB stay (keep scores), 16 MiB are shared" in output("scores"), "2,004 pictures and two class images at two bytes a pixel"
    stay = float(output("everything").split("Disk: ")[1].split(" MiB")[0])
    assert stay > 16, "the pictures alone are 16 MiB"


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_folder_that_cannot_be_made_is_a_wrong_request(ask, tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="--output_dir"):
        list(bench(ask({"untuned": {"model": "untuned"}}, output_dir=str(tmp_path / place))))


def test_two_benches_do_not_share_a_folder(ask, tmp_path):
    with claimed(tmp_path / "out", "bench"), pytest.raises(SettingError, match=r"in use: `dreambooth bench` has been .*process \d+ on"):
        list(bench(ask()))


def test_absent_subjects_are_reported_and_left_out(ask, dataset):
    shutil.rmtree(dataset / "toy1")
    request = ask({"untuned": {"model": "untuned"}})
    records = list(bench(request))
    assert isinstance(records[0], Message) and "1 have no folder: toy1" in records[0].text
    assert [row.subject for row in ended(records).rows] == ["dog7"]


def test_the_command_says_what_failed_and_its_exit_code_is_1(dataset, pipelines, encoder_flags, tmp_path, capsys):
    plan = tmp_path / "mine.yaml"
    plan.write_text("title: Mine\narms: {plain: {model: untuned}, described: {model: described}}\n")
    flags = [f"--{name}={value}" for name, value in {**encoder_flags, "num_prompts": 1, "num_images": 2, "class_samples": 0}.items()]
    argv = ["bench", str(plan), "--dataset_dir", str(dataset), "--output_dir", str(tmp_path / "out"), *flags]
    argv += [
        "--pretrained_model_name_or_path",
        str(pipelines("stable_diffusion")),
        "--resolution",
        "16",
        "--validation_inference_steps",
        "2",
    ]
    assert main([*argv, "--dry_run"]) == 0
    assert not (tmp_path / "out" / "rows").exists() and "plain: 2 to do, 0 done" in capsys.readouterr().out
    assert main(argv) == 3
    output = capsys.readouterr()
    assert "1 of 4 jobs have no row" in output.err and "described, toy1, seed 0: description: there is no description" in output.err
    assert "A plan" not in output.out and "Mine" in output.out
    assert main([*argv, "--subjects", "dog7"]) == 0
    assert main([*argv, "--subjects", "dog8"]) == 2 and "Did you mean dog7?" in capsys.readouterr().err
    assert main([*argv, "--seed", "3"]) == 2 and "--seeds" in capsys.readouterr().err
    assert main([*argv, "--lerning_rate", "3"]) == 2 and "Did you mean --learning_rate?" in capsys.readouterr().err
    rows = [json.loads(path.read_text()) for path in (tmp_path / "out" / "rows").glob("*.json")]
    assert len(rows) == 3 and not any(row["toybox"] for row in rows)


def test_photos_beyond_what_there_is_fail_and_the_first_few_are_learned(ask):
    arms = {"p": {"sweep": {"num_photos": [1, 9]}, "settings": {"with_prior_preservation": False}}}
    records = list(bench(ask(arms, subjects=["dog7"], keep="everything")))
    (row,), (failure,) = ended(records).rows, ended(records).failures
    assert row.arm == "p, num_photos 1" and row.settings["num_photos"] == 1 and "holds 4" in failure["reason"]
    job = next(record.job for record in records if isinstance(record, Finished))
    record = json.loads((Path(job.folder) / "run" / "run.json").read_text())
    assert [photo["name"] for photo in record["photos"]] == ["0.png"] and row.real["dino"]["n"] == 4


def test_the_wrong_noun_and_none_are_trained_and_measured_with_the_correct_one(ask, dataset):
    arms = {"none": {"noun": "none"}, "wrong": {"noun": "wrong"}}
    jobs = {job.arm: job for job in jobs_of(ask(arms, subjects=["dog7"]))}
    assert jobs["none"].settings["instance_prompt"] == "a [V]" and jobs["none"].settings["with_prior_preservation"] is False
    assert jobs["wrong"].settings["class_noun"] == "toy" and {job.noun for job in jobs.values()} == {"dog"}
    row = last(work(jobs["wrong"], never))
    assert next(iter(row.pictures)) == "a [V] dog in the jungle"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_stopping_takes_its_time_for_is_said_at_once(number, capfd):
    before = signal.getsignal(number)
    with interruptible() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
    assert "Stopping: running jobs save their state" in capfd.readouterr().err
    assert signal.getsignal(number) is before


def test_a_stopped_bench_keeps_its_finished_rows_and_draws_no_tables(ask, tmp_path):
    records = bench(ask({"untuned": {"model": "untuned"}}), stop=lambda: any(isinstance(record, Finished) for record in seen))
    seen = []
    with pytest.raises(Interrupted):
        seen += records
    assert len(list((tmp_path / "out" / "rows").iterdir())) == 1
