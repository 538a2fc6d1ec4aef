"""What comes of a run: pictures, files, comparisons; and the same for programs."""

import hashlib
import json
import re
import time
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from dreambooth.bench.job import Row
from dreambooth.bench.rows import write_row
from dreambooth.files.atomic import write_json
from dreambooth.files.cache import CLASS_IMAGES, MANIFEST, cache_root
from dreambooth.schema import flags
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.states import State
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
    assert "0.500" in page and "0.700" in page and page.count('class="done"') == 3 and page.count('class="open"') == 1


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
