"""What comes of a run: pictures, files, comparisons; and the same for programs."""

import hashlib
import json
import re
import time
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from dreambooth.bench.job import Row
from dreambooth.bench.progress import PROGRESS
from dreambooth.bench.rows import write_row
from dreambooth.files.atomic import write_json
from dreambooth.files.cache import CLASS_IMAGES, MANIFEST, cache_root
from dreambooth.schema import flags
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.states import State, own_process
from dreambooth.web import jobs
from tests import tiny
from tests.web.conftest import made_run, png

FAST = {
    "class_noun": "dog", "identifier": "sks", "resolution": 16, "max_train_steps": 2, "num_class_images": 2, "prior_inference_steps": 2,
    "validation_inference_steps": 2, "skip_final_inference": True, "method": "lora", "seed": 0,
}  # fmt: skip


def ended(studio, job):
    """A job's state, when its process has ended."""
    stop = time.monotonic() + 300
    while (status := jobs.status_of(studio, jobs.job_named(studio, job))).state.is_active and time.monotonic() < stop:
        time.sleep(0.2)
    return status


def submitted(client, studio, pipelines, name="rex", **settings):
    tiny.photos(studio.root / "photos" / "given")
    model = str(pipelines("stable_diffusion"))
    asked = {"instance_data_dir": "photos/given", "pretrained_model_name_or_path": model, **FAST, **settings}
    return client.post("/api/runs", json={"name": name, "settings": asked})


def test_a_program_trains_draws_exports_and_deletes(client, studio, pipelines):
    """The whole way, with real processes and a model that is not the toybox."""
    answer = submitted(client, studio, pipelines)
    assert answer.status_code == 201, answer.text
    assert ended(studio, answer.json()["id"]).state is State.FINISHED
    assert client.get("/api/runs/rex").json()["state"] == "finished"
    drawing = client.post("/api/runs/rex/-/pictures", json={"settings": {"prompt": "a [V] dog", "num_images": 2, "num_inference_steps": 2}})
    assert drawing.status_code == 201, drawing.text
    assert ended(studio, drawing.json()["id"]).state is State.FINISHED
    page = client.get("/runs/rex/-/play").text
    assert page.count("samples/play/") == 4 and "num inference steps" in page
    export = client.post("/runs/rex/-/export", data={"format": "comfy"}, follow_redirects=False)
    assert export.status_code == 303
    assert ended(studio, jobs.of_run(studio, "rex")[-1].id).state is State.FINISHED
    page = client.get("/runs/rex/-/export").text
    assert "ComfyUI" in page and 'href="/runs/rex/-/files/export/comfy/rex.safetensors"' in page
    assert client.get("/runs/rex/-/files/export/comfy/rex.safetensors").headers["content-disposition"].startswith("attachment")
    assert client.post("/runs/rex/-/export", data={"format": "comfy"}).status_code == 422, "it is there, and stays"
    assert client.request("DELETE", "/api/runs/rex").status_code == 422
    assert client.request("DELETE", "/api/runs/rex?confirm=rex").json()["is_gone"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"rank": 0}, "rank"), ({"rnak": 4}, "rnak"), ({"allow_pickle": True}, "allow_pickle"), ({"output_dir": "x"}, "output_dir"),
        ({"instance_data_dir": "../x"}, "name"), ({"instance_data_dir": "photos/none"}, "photos/none"),
        ({"method": "os:path"}, "method"), ({"class_noun": None, "evaluate_every": 5}, "evaluate_every"),
    ],
    ids=str,
)  # fmt: skip
def test_what_the_command_line_refuses_a_program_is_refused_too(client, studio, pipelines, not_started, settings, named):
    answer = submitted(client, studio, pipelines, **settings)
    assert answer.status_code in (404, 422) and named in answer.json()["setting"]
    assert not jobs.read_jobs(studio) and not not_started


@pytest.mark.parametrize(
    ("what", "settings"),
    [
        ("pictures", {"prompt": "a dog", "allow_pickle": True}), ("pictures", {"prompt": "a dog", "output_dir": "old/samples/step-10"}),
        ("pictures", {"prompts": "/etc/passwd"}), ("pictures", {"prompt": "a dog", "lora": "../x.safetensors"}),
        ("export", {"format": "comfy", "output": "old/other.safetensors"}), ("export", {"format": "comfy", "allow_pickle": True}),
    ],
    ids=str,
)  # fmt: skip
def test_a_program_is_given_no_pickle_and_no_place_to_write_to(client, studio, what, settings):
    made_run(studio.root)
    answer = client.post(f"/api/runs/old/-/{what}", json={"settings": settings})
    assert answer.status_code == 422 and answer.json()["setting"].removeprefix("--") in settings
    assert not jobs.read_jobs(studio)


def test_a_request_of_another_shape_is_answered_in_a_sentence(client):
    answer = client.post("/api/runs", json={"name": "x"})
    assert answer.status_code == 422 and answer.json()["setting"] == "settings"
    assert client.get("/api/nothing").json()["reason"]


def test_programs_list_runs_queue_models_and_settings(client, studio, not_started):
    made_run(studio.root)
    jobs.add(studio, jobs.new("train", ("train",), "a", "cpu"))
    assert client.get("/api/runs").json()["runs"][0]["name"] == "old"
    [job] = client.get("/api/queue").json()
    assert job["state"] == "queued" and client.post(f"/api/queue/{job['id']}/first").status_code == 200
    assert client.request("DELETE", f"/api/queue/{job['id']}").status_code == 200 and client.get("/api/queue").json() == []
    assert any(model["name"] == "toybox" for model in client.get("/api/models").json())
    found = client.get("/api/settings").json()
    assert found["flags"]["class_noun"]["level"] == "basic" and "properties" in found["schema"]
    assert "/api/runs" in client.get("/api/").text


def test_every_endpoint_of_the_description_has_a_sentence(client):
    for path, some in client.get("/api/openapi.json").json()["paths"].items():
        assert all(entry.get("description") for entry in some.values()), path


def test_a_picture_without_a_prompt_is_refused_in_place_and_the_form_stays(client, studio):
    made_run(studio.root)
    page = client.post("/runs/old/-/play", data={"prompt": "", "seed": "many"})
    assert page.status_code == 422 and 'value="many"' in page.text and not jobs.read_jobs(studio)


def test_the_form_of_pictures_is_filled_in_as_it_was_asked_last(client, studio):
    made_run(studio.root)
    grid = ("--grid=seed,lora_scale", "--grid_values=lora_scale=0.5, 1")
    words = ("--run=old", "--prompt=a [V] dog, --odd", "--prompt=a cat", "--seed=7", *grid, "--output_dir=x")
    jobs.add(studio, jobs.new("generate", ("generate", *words), "old", "cpu"))
    page = client.get("/runs/old/-/play").text
    assert "a [V] dog, --odd\na cat</textarea>" in page and 'name="seed" value="7"' in page and 'name="strength" value="0.5, 1"' in page
    assert 'name="grid" value=""' in page


def test_a_file_is_offered_when_it_was_read_back_and_not_before(client, studio):
    folder = made_run(studio.root) / "export" / "comfy"
    folder.mkdir(parents=True)
    (folder / "old.safetensors").write_bytes(b"x")
    offered = 'href="/runs/old/-/files/export/comfy/old.safetensors"'
    assert offered in client.get("/runs/old/-/export").text
    result = "old/export/comfy/old.safetensors"
    jobs.add(studio, jobs.new("export", ("export",), "old", "cpu", result=result, started=time.time(), process=own_process()))
    assert offered not in client.get("/runs/old/-/exported").text


def test_runs_that_share_no_picture_are_not_compared_and_the_page_says_why(client, studio):
    made_run(studio.root, "a"), made_run(studio.root, "b")
    assert client.get("/compare").status_code == 200
    assert "no prompt and seed" in client.get("/compare?run=a&run=b").text
    assert client.get("/compare?run=a").status_code == 422


def test_runs_are_compared_in_a_page_that_can_do_nothing(client, studio):
    for name in ("a", "b"):
        folder = made_run(studio.root, name, identifier="sks") / "samples" / "generated"
        folder.mkdir()
        notes = PngImagePlugin.PngInfo()
        notes.add_text("dreambooth", json.dumps({"prompt": "a sks dog", "seed": 0}))
        Image.new("RGB", (8, 8)).save(folder / "00-seed0.png", pnginfo=notes)
    if "no prompt" not in client.get("/compare?run=a&run=b").text:
        answer = client.get("/compare/page?run=a&run=b")
        assert answer.status_code == 200 and answer.headers["content-security-policy"].startswith("sandbox")


def test_models_and_the_cache_are_listed_and_what_nobody_uses_is_deleted(client, studio):
    folder = cache_root() / CLASS_IMAGES / "abc"
    folder.mkdir(parents=True)
    write_json(folder / MANIFEST, {"made_with": {"prompt": "a dog"}, "images": {"0.png": "x"}})
    (folder / "0.png").write_bytes(png())
    assert "a dog" in client.get("/models").text.replace("&#39;", "'")
    client.post("/models/prune")
    assert not folder.exists()


def test_a_bench_is_a_matrix_of_subjects_and_arms(client, studio):
    assert "no bench" in client.get("/bench").text
    for number, (subject, arm) in enumerate([("dog", "lora"), ("dog", "full"), ("mug", "lora")]):
        score = {"dino": {"value": 0.5 + number / 10, "low": 0.4, "high": 0.6, "n": 4}}
        write_row(studio.root / "tables", Row(f"k{number}", "recipe", arm, subject, 0, "dog", True, scores=score))
    page = client.get("/bench").text
    assert "0.500" in page and "0.700" in page and page.count('class="finished"') == 3 and page.count('class="none"') == 1


def test_the_library_of_the_pages_is_the_one_that_was_published():
    static = Path(jobs.__file__).parent / "static"
    facts = json.loads((static / "htmx.json").read_text())
    assert hashlib.sha256((static / "htmx.min.js").read_bytes()).hexdigest() == facts["sha256"]
    assert facts["version"].encode() in (static / "htmx.min.js").read_bytes() and (static / "htmx.LICENSE.txt").is_file()


def test_no_template_names_a_setting():
    """A page that named one could name one that the command line lacks."""
    names = {name for name in flags(TrainConfig) if "_" in name}
    for path in (Path(jobs.__file__).parent / "templates").glob("*.html"):
        assert not names & set(re.findall(r"\w+", path.read_text())), path.name


def test_a_bench_is_watched_while_its_jobs_wait_run_fail_and_end(client, studio):
    root = studio.root / "asked"
    score = {"dino": {"value": 0.61, "low": 0.4, "high": 0.7, "n": 4}}
    write_row(root, Row("k0", "two", "lora", "dog", 0, "dog", True, scores=score))
    made_run(root / "jobs" / "k1", "run", state="running", phase="training", step=30, process=own_process())
    (root / PROGRESS).mkdir()
    begun = {"kind": "plan", "plan": "two", "arms": {"lora": [0], "full": [0]}, "subjects": ["dog", "mug"]}
    said = [
        {"kind": "finished", "arm": "lora", "subject": "dog", "seed": 0, "key": "k0"},
        {"kind": "running", "arm": "full", "subject": "dog", "seed": 0, "key": "k1"},
        {"kind": "failed", "arm": "lora", "subject": "mug", "seed": 0, "key": "k2", "cause": "<no> memory"},
    ]

    def shown(process):
        lines = [{**begun, "process": process}, *said]
        (root / PROGRESS / "two.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        page = client.get("/bench", headers={"hx-request": "true"}).text
        return page, re.findall(r'<td class="(\w+)"', page)

    page, states = shown(own_process())
    assert states == ["finished", "running", "failed", "queued"]
    assert "0.610" in page and "training 30" in page and "&lt;no&gt; memory" in page and "<html" not in page
    page, states = shown({**own_process(), "pid": 2**22 - 1})
    assert states == ["finished", "interrupted", "failed", "queued"] and "the same command goes on" in page
