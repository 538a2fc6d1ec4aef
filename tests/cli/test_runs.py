"""`dreambooth runs` and `dreambooth cache`: what they list, compare and delete, and what they refuse."""

import json
import re
import shutil

import pytest
from PIL import Image

from dreambooth.cli import main
from dreambooth.files.images import save_png
from dreambooth.files.locks import claimed
from dreambooth.photos.load import photo_hash
from dreambooth.setup.states import own_process
from tests import tiny
from tests.setup.test_runs import made


def run(root, name, *, pictures=(("a sks dog in the snow", 0),), **values):
    """A run's folder with a few pictures, an identifier and a photo that is gone."""
    photos = [{"name": "gone.png", "sha256": "0" * 64}]
    given = {"identifier": "sks", "method": "lora", "base_model": {"name": "base"}, "photos": photos, **values}
    folder = made(root / name, **given)
    for number, (prompt, seed) in enumerate(pictures):
        save_png(folder / "samples" / "final" / f"{number:02d}-seed{seed}.png", Image.new("RGB", (8, 8)), {"prompt": prompt, "seed": seed})
    return folder


def test_a_list_shows_name_state_steps_and_picture_and_json_all_of_it(tmp_path, capsys):
    folder = run(tmp_path, "my-dog", seconds={"training": 125.0})
    (folder / "scores.json").write_text(json.dumps({"verdict": {"word": "good"}}))
    run(tmp_path, "killed", state="running", phase="training", process={"host": own_process()["host"], "boot": "another"})
    assert main(["runs", "list", "--root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[3].startswith("killed: its process ended")
    assert main(["runs", "list", "--root", str(tmp_path), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["runs"]}
    assert rows["my-dog"]["verdict"] == "good" and rows["my-dog"]["training_seconds"] == 125 and rows["killed"]["state"] == "interrupted"
    assert rows["my-dog"]["bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_run_is_shown_with_the_photo_that_is_gone(tmp_path, capsys):
    folder = run(tmp_path, "my-dog")
    (tmp_path / "photos").mkdir()
    (folder / "config.yaml").write_text(f"photos: {{instance_data_dir: {tmp_path / 'photos'}}}\n")
    assert main(["runs", "show", "my-dog", "--root", str(tmp_path), "--json"]) == 0
    found = dict(json.loads(capsys.readouterr().out)["details"])
    assert "gone.png" in found["photos"] and found["state"] == "finished" and "generate" in found["next"]
    (tmp_path / "photos").rmdir()
    assert main(["runs", "show", "my-dog", "--root", str(tmp_path)]) == 0
    assert "is gone" in capsys.readouterr().out


@pytest.mark.parametrize("verb", [("show",), ("compare", "my-dog"), ("remove", "--yes"), ("tell", "save")])
@pytest.mark.parametrize("name", ["photos", "missing", "../outside"])
def test_a_folder_that_is_no_run_is_refused_by_every_verb(tmp_path, refused, verb, name):
    root = tmp_path / "root"
    run(root, "my-dog")
    for place in (root / "photos", tmp_path / "outside"):
        place.mkdir()
        (place / "0.png").write_bytes(b"")
    words = ["runs", verb[0], *([verb[1], name] if verb[0] == "compare" else [name, *verb[1:]])]
    refused(*words, "--root", root, words=(name,))


def test_a_comparison_pairs_equal_prompts_and_seeds_whatever_the_identifiers_are(tmp_path, capsys):
    run(tmp_path, "a", pictures=[("a sks dog in the snow", 0), ("a sks dog", 5)])
    other = run(tmp_path, "b<i>", identifier="ohwx", pictures=[("a ohwx dog in the snow", 0), ("a ohwx dog", 6)])
    word = run(tmp_path, "c", identifier="<dog>", pictures=[("a <dog> in the snow", 0)])
    (other / "config.yaml").write_text(
        "photos: {class_noun: dog}\nmethod: {rank: 8}\noutput: {output_dir: elsewhere}\nvalidation: {x: 1}\n"
    )
    page = tmp_path / "page.html"
    assert main(["runs", "compare", "a", "b<i>", "c", "--root", str(tmp_path), "--output", str(page)]) == 0
    assert capsys.readouterr().out.startswith("1 ") and word.exists()
    text = page.read_text()
    assert text.count("<img") == 3 and "method.rank" in text and "output_dir" not in text and "validation" not in text and "<i>" not in text
    assert main(["runs", "compare", "a", "b<i>", "--root", str(tmp_path), "--output", str(page)]) == 0, "its own page is written anew"


def test_a_comparison_has_a_row_for_each_run_a_column_for_each_seed_and_the_photos_that_all_learned_from(tmp_path):
    photos = tiny.photos(tmp_path / "photos", count=2)
    learned = [{"name": path.name, "sha256": photo_hash(path)} for path in sorted(photos.iterdir())]
    for name in ("a", "b"):
        folder = run(tmp_path, name, photos=learned, pictures=[("a sks dog", seed) for seed in (0, 3, 7)])
        (folder / "config.yaml").write_text(f"photos: {{instance_data_dir: {photos}}}\n")
    run(tmp_path, "c", photos=learned[:1], pictures=[("a sks dog", 0)])
    for others, count in ((["b"], 2), (["b", "c"], 0)):
        page = tmp_path / f"{len(others)}.html"
        assert main(["runs", "compare", "a", *others, "--root", str(tmp_path), "--output", str(page)]) == 0
        assert page.read_text().count('alt="photo ') == count, "photos that not all have learned from are nobody's measure"
    text = (tmp_path / "1.html").read_text()
    assert re.findall(r'alt="([ab], seed [0-9])"', text) == ["a, seed 0", "a, seed 3", "a, seed 7", "b, seed 0", "b, seed 3", "b, seed 7"]


def test_scores_of_unequal_evaluations_are_not_held_against_each_other(tmp_path):
    protocol = {
        "model": "", "weights": "", "base_model": "", "base_weights": "", "untuned_prompts": "", "intervals": "", "seed": 0,
        "encoders": {"dino": "small"}, "prompts": 2, "images_per_prompt": 1, "class_samples": 0, "seeds": [0, 0],
    }  # fmt: skip
    for name, encoder in (("a", "small"), ("b", "small"), ("c", "large")):
        scores = {
            "dino": {"value": 0.5, "low": 0.4, "high": 0.6}, "untuned": {}, "real_photos": {}, "per_prompt": [],
            "verdict": {"word": "good", "sentence": "It is.", "problems": [], "figures": {}}, "subject": {},
            "protocol": {**protocol, "encoders": {"dino": encoder}},
        }  # fmt: skip
        (run(tmp_path, name) / "scores.json").write_text(json.dumps(scores))
    pages = {}
    for other in ("b", "c"):
        assert main(["runs", "compare", "a", other, "--root", str(tmp_path), "--output", str(tmp_path / f"{other}.html")]) == 0
        pages[other] = (tmp_path / f"{other}.html").read_text()
    assert "0.400 to 0.600" in pages["b"] and "cannot be held" not in pages["b"] and "cannot be held" in pages["c"]


def test_what_cannot_be_compared_is_refused_before_a_page_is_written(tmp_path, refused):
    run(tmp_path, "a")
    run(tmp_path, "other-seed", pictures=[("a sks dog in the snow", 1)])
    run(tmp_path, "no-pictures", pictures=())
    (run(tmp_path, "damaged") / "run.json").write_text("{")
    (tmp_path / "mine.html").write_text("<p>my own page</p>")
    for names, words in {
        ("a", "other-seed"): ("prompt and seed",), ("a", "no-pictures"): ("no-pictures has 0",), ("a",): ("two to four",),
        ("a", "./a"): ("twice",), ("a", "damaged"): ("damaged",),
    }.items():  # fmt: skip
        refused("runs", "compare", *names, "--root", tmp_path, "--output", tmp_path / "page.html", words=words)
    run(tmp_path, "b")
    refused("runs", "compare", "a", "b", "--root", tmp_path, "--output", tmp_path / "mine.html", words=("mine.html",))


def test_a_removed_run_is_gone_and_what_it_has_not_written_stays(tmp_path, capsys):
    folder = run(tmp_path, "my-dog")
    (folder / "checkpoint-5").mkdir()
    (folder / "pytorch_lora_weights.safetensors").write_bytes(b"1")
    (folder / "photos").mkdir()
    (folder / "photos" / "0.png").write_bytes(b"mine")
    made(folder / "inner")
    (folder / "best of all.safetensors").write_bytes(b"my own copy")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "0.png").write_bytes(b"mine, too")
    (folder / "checkpoint-9").symlink_to(elsewhere, target_is_directory=True)
    assert main(["runs", "remove", "my-dog", "--root", str(tmp_path), "--yes"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["best of all.safetensors", "inner", "photos"]
    assert (elsewhere / "0.png").exists()
    assert "best of all.safetensors, inner, photos" in capsys.readouterr().out
    other = run(tmp_path, "plain")
    assert main(["runs", "remove", str(other), "--root", str(tmp_path), "--yes"]) == 0 and not other.exists()


def test_the_name_is_asked_for_where_somebody_can_answer(tmp_path, monkeypatch):
    folder = run(tmp_path, "my-dog")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    words = ["runs", "remove", "my-dog", "--root", str(tmp_path)]
    monkeypatch.setattr("builtins.input", lambda question: "my-cat")
    assert main(words) == 2 and (folder / "run.json").exists()
    monkeypatch.setattr("builtins.input", lambda question: "my-dog")
    assert main(words) == 0 and not folder.exists()


def test_what_may_not_be_removed_is_refused(tmp_path, refused):
    root = tmp_path / "root"
    run(root, "at-work", state="running", phase="training", process=own_process())
    run(root, "my-dog")
    run(tmp_path, "outside")
    (root / "link").symlink_to(root / "my-dog", target_is_directory=True)
    refused("runs", "remove", "at-work", "--root", root, "--yes", words=("running",))
    refused("runs", "remove", tmp_path / "outside", "--root", root, "--yes", words=("does not lie in",))
    refused("runs", "remove", "link", "--root", root, "--yes", words=("link",))
    refused("runs", "remove", "my-dog", "--root", root, words=("--yes",))
    with claimed(root / "my-dog" / "samples" / "final", "generate"):
        assert main(["runs", "remove", "my-dog", "--root", str(root), "--yes"]) == 2
        assert (root / "my-dog" / "config.yaml").exists()


def test_removing_a_base_model_says_whose_it_is(tmp_path, capsys):
    base = run(tmp_path, "base")
    run(tmp_path, "child", base_model={"name": str(base)})
    assert main(["runs", "remove", "base", "--root", str(tmp_path), "--yes"]) == 0
    assert "base model of child" in capsys.readouterr().out


def test_a_run_that_is_not_at_work_cannot_be_steered(tmp_path, refused):
    run(tmp_path, "done")
    run(tmp_path, "newer", state="running", process=own_process(), dreambooth="99.0")
    refused("runs", "tell", "done", "save", "--root", tmp_path, words=("done", "finished"))
    refused("runs", "tell", "newer", "save", "--root", tmp_path, words=("newer",))
    refused("runs", "tell", "done", "pause", "--root", tmp_path, words=("what",))


def test_a_cache_is_listed_with_its_users_and_pruned_of_what_no_run_uses(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    cache, root = tmp_path / "cache", tmp_path / "root"
    for name in ("used", "unused", "damaged"):
        (cache / "class_images" / name).mkdir(parents=True)
        (cache / "class_images" / name / "class_images.json").write_text("{" if name == "damaged" else '{"images": {"00000.png": {}}}')
    (cache / "class_images" / "link").symlink_to(root, target_is_directory=True)
    (cache / "digests").mkdir()
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"1")
    for name, path in (("here", weights), ("gone", tmp_path / "gone.safetensors")):
        (cache / "digests" / f"{name}.json").write_text(json.dumps({"path": str(path), "seen": [1], "sha256": ""}))
    run(root, "my-dog", class_images=[{"folder": str(cache / "class_images" / "used"), "count": 1}])
    assert main(["cache", "list", "--root", str(root), "--json"]) == 0
    found = {row["path"].rpartition("/")[2]: row["used_by"] for row in json.loads(capsys.readouterr().out) if row["kind"] != "base"}
    assert found == {"used": ["my-dog"], "unused": [], "damaged": [], "here.json": [str(weights)], "gone.json": []}
    assert main(["cache", "prune", "--root", str(root)]) == 2 and (cache / "class_images" / "unused").exists()
    assert main(["cache", "prune", "--yes"]) == 2, "runs elsewhere use this cache, too: where all of them lie has to be said"
    with claimed(cache / "class_images" / "damaged", "train"):
        assert main(["cache", "prune", "--root", str(root), "--yes"]) == 0
        assert (cache / "class_images" / "damaged" / "class_images.json").exists() and not (cache / "class_images" / "unused").exists()
    assert main(["cache", "prune", "--root", str(root), "--yes"]) == 0
    left = sorted(path.name for place in ("class_images", "digests") for path in (cache / place).iterdir())
    assert left == ["here.json", "link", "used"] and (root / "my-dog" / "run.json").exists()
    shutil.rmtree(cache)
    assert main(["cache", "list", "--root", str(root)]) == 0
