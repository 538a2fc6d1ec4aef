"""A new model, step by step: nothing that was typed is lost, and nothing that the checks refuse is started."""

import json

import pytest
import yaml

from dreambooth.web import jobs
from dreambooth.web.drafts import read_drafts
from tests.web.conftest import drafted, photos, png


def test_from_photos_to_a_training_in_a_process_of_its_own(client, studio, tmp_path, not_started):
    address = drafted(client, tmp_path)
    plan = client.get(f"{address}/planned").text
    assert "8 updates" in plan and "Start" in plan
    answer = client.post(f"{address}/start", follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/runs/rex"
    [job] = jobs.read_jobs(studio)
    [words] = not_started
    assert words[1:] == ["-m", "dreambooth", "train", "--config", f".dreambooth/jobs/{job.id}.yaml"]
    tree = yaml.safe_load((studio.jobs / f"{job.id}.yaml").read_text())
    assert tree["method"]["kind"] == "lora" and tree["output"]["output_dir"] == str(studio.root / "rex")
    assert "running" in client.get("/runs/rex").text


def test_a_run_is_started_once_however_often_the_button_is_pressed(client, studio, tmp_path, not_started):
    address = drafted(client, tmp_path)
    client.post(f"{address}/start")
    assert client.post(f"{address}/start").status_code == 422
    assert len(jobs.read_jobs(studio)) == len(not_started) == 1


def test_what_was_typed_stays_though_it_is_wrong(client, studio, tmp_path):
    address = drafted(client, tmp_path)
    page = client.post(f"{address}/how", data={"class_noun": "dog", "name": "rex", "rank": "many", "learning_rate": "1e-4"})
    assert page.status_code == 422 and 'value="many"' in page.text and 'aria-invalid="true"' in page.text
    again = client.get(f"{address}/how").text
    assert 'value="many"' in again and 'value="1e-4"' in again
    assert client.post(f"{address}/start").status_code == 422
    assert not jobs.read_jobs(studio)


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "con", "NUL.txt", "photos", ".hidden", "-x", "x" * 200, "end.", "a:b"])
def test_a_run_gets_no_name_that_is_no_folders_everywhere(client, tmp_path, name):
    address = drafted(client, tmp_path)
    assert client.post(f"{address}/how", data={"class_noun": "dog", "name": name}).status_code == 422


def test_a_run_gets_no_name_that_is_taken(client, studio, tmp_path):
    address = drafted(client, tmp_path)
    (studio.root / "rex").mkdir()
    assert client.post(f"{address}/start").status_code == 422


@pytest.mark.parametrize(
    "values",
    [
        {"mask_dir": "/etc"}, {"class_data_dir": "../elsewhere"}, {"logging_dir": "/tmp"}, {"mask_dir": "~"}, {"single_file_config": "nul"},
        {"lora": "link/file.safetensors"}, {"method": "os.path:join"},
    ],
    ids=str,
)  # fmt: skip
def test_a_setting_leads_to_nothing_outside_the_root(client, studio, tmp_path, values):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file.safetensors").write_bytes(b"")
    (studio.root / "link").symlink_to(tmp_path / "outside")
    address = drafted(client, tmp_path)
    assert client.post(f"{address}/how", data={"class_noun": "dog", "name": "rex", **values}).status_code == 422
    assert client.post(f"{address}/start").status_code == 422
    assert not jobs.read_jobs(studio)


def test_deeds_are_not_asked_for_in_a_form(client, studio, tmp_path):
    address = drafted(client, tmp_path, allow_pickle="true", push_to_hub="true", overwrite_output_dir="true", trust_code="true")
    assert not {"allow_pickle", "push_to_hub", "overwrite_output_dir"} & set(read_drafts(studio)[0].settings)
    assert 'name="allow_pickle"' not in client.get(f"{address}/how").text


def test_another_model_is_not_chosen_by_its_address(client, tmp_path):
    address = drafted(client, tmp_path)
    assert client.post(f"{address}/model", data={"model": "/etc"}).status_code == 422


def test_what_is_no_photo_is_refused_by_its_bytes_and_the_others_stay(client, studio):
    address = client.post("/new", follow_redirects=False).headers["location"].rpartition("/")[0]
    files = [("photos", ("a.jpg", b"MZ\x90\0 no picture")), ("photos", ("../../b.exe", png())), ("photos", ("c.png", png()[:60]))]
    answer = client.post(f"{address}/photos", files=files)
    assert answer.status_code == 422 and "a.jpg" in answer.text and "c.png" in answer.text
    kept = [path.name for path in (studio.root / "photos" / address.rpartition("/")[2]).iterdir()]
    assert kept == ["b.png"]


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [("web.uploads.MOST_PHOTOS", 1, "one too many"), ("web.uploads.MOST_BYTES", 60, "larger"), ("photos.load.MAX_PIXELS", 3600, "pixels")],
)
def test_more_photos_bytes_and_pixels_than_anybody_needs_are_not_taken(client, studio, monkeypatch, limit, value, words):
    address = client.post("/new", follow_redirects=False).headers["location"].rpartition("/")[0]
    monkeypatch.setattr(f"dreambooth.{limit}", value)
    answer = client.post(f"{address}/photos", files=[("photos", (f"{n}.png", png("red", (64 + n, 64)))) for n in range(2)])
    assert answer.status_code == 422 and words in answer.text
    assert len(list((studio.root / "photos" / address.rpartition("/")[2]).iterdir())) == (words == "one too many")


def test_a_photo_is_left_out_taken_in_cropped_and_captioned(client, studio, tmp_path):
    address = client.post("/new", follow_redirects=False).headers["location"].rpartition("/")[0]
    folder = studio.root / "photos" / address.rpartition("/")[2]
    client.post(f"{address}/photos", files=[*photos(tmp_path / "given"), ("photos", ("wide.png", png("red", (64, 32))))])

    def act(what, file, **other):
        assert client.post(f"{address}/photo", data={"what": what, "file": file, **other}).status_code == 200

    act("aside", "0.png")
    assert not (folder / "0.png").exists() and (folder / "left-out" / "0.png").exists()
    act("back", "0.png")
    act("crop", "wide.png")
    act("caption", "wide.png", text="a [V] dog\non grass")
    assert (folder / "wide.txt").read_text() == "a [V] dog on grass\n"
    assert client.get(f"{address}/photos/wide.png").headers["content-type"] == "image/jpeg"
    act("uncrop", "wide.png")
    assert {path.name for path in folder.glob("*.png")} == {"0.png", "1.png", "2.png", "3.png", "wide.png"}


def test_every_step_has_its_address_and_shows_what_was_chosen(client, tmp_path):
    address = drafted(client, tmp_path, prior_loss_weight="0.5")
    assert "0.png" in client.get(f"{address}/photos").text
    assert 'aria-current="true"' in client.get(f"{address}/model").text
    how = client.get(f"{address}/how").text
    assert 'value="0.5"' in how and "--prior_loss_weight 0.5" in how
    assert client.get(f"{address}/plan").status_code == 200


def test_every_setting_of_the_command_line_stands_in_the_form(client, tmp_path):
    from dreambooth.schema import flags
    from dreambooth.setup.config import TrainConfig
    from dreambooth.setup.trust import DEEDS
    from dreambooth.web.pages.new import HIDDEN

    how = client.get(f"{drafted(client, tmp_path)}/how").text
    assert [name for name in flags(TrainConfig) if f'name="{name}"' not in how and name not in (*HIDDEN, *DEEDS)] == []


def test_a_quick_look_takes_a_part_of_the_recipes_updates(client, studio, tmp_path):
    drafted(client, tmp_path, goal="quick", max_train_steps="")
    [draft] = read_drafts(studio)
    assert 20 <= draft.config(studio).loop.max_train_steps < 400


def test_a_draft_is_thrown_away_with_its_photos(client, studio, tmp_path):
    address = drafted(client, tmp_path)
    client.post(f"{address}/discard")
    assert not read_drafts(studio) and not list((studio.root / "photos").iterdir())
    assert client.get(f"{address}/photos").status_code == 404


def test_a_draft_that_is_damaged_takes_nothing_else_with_it(client, studio, tmp_path):
    drafted(client, tmp_path)
    (studio.drafts / "bad.json").write_text("[1")
    (studio.drafts / "odd.json").write_text(json.dumps({"created": 1.0, "settings": {}, "unknown": 3}))
    assert client.get("/").status_code == 200 and "rex" in client.get("/").text
