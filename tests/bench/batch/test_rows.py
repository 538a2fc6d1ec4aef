"""Rows that really learn, on a tiny pipeline: what is left of each, and what rows of a class share."""

import json

import pytest
from PIL import Image

from dreambooth.bench.batch.jobs import job_of
from dreambooth.bench.batch.products import read_products
from dreambooth.cli import main
from dreambooth.evaluation import pictures
from dreambooth.setup.runs import find_runs
from tests.bench.conftest import SMALL

SCORES = ["--num_prompts", "2", "--num_images", "1", "--class_samples", "2"]


@pytest.fixture
def command(shop, encoder_flags):
    """`dreambooth batch` on the shop's table; returns its exit code."""
    base = shop.training["pretrained_model_name_or_path"]
    given = {**SMALL, "pretrained_model_name_or_path": base, **encoder_flags, "clip_encoder": "none", "lpips_encoder": "none"}
    flags = [word for name, value in given.items() for word in (f"--{name}", str(value))]

    def run(*words: str) -> int:
        return main(["batch", str(shop.table), "--output_dir", str(shop.out), *SCORES, *flags, *words])

    return run


def test_rows_learn_by_their_own_settings_share_what_their_class_shares_and_keep_what_was_asked_for(shop, command, monkeypatch, capsys):
    shop.write("mug-blue,mug,photos/mug-blue,lora,2", "mug-red,mug,photos/mug-red,full,", "shoe,shoe,photos/none,,",
               head="subject,class,photos,method,rank")  # fmt: skip
    phases, real = [], pictures.draw
    recorded = lambda family, prompts, *rest, **how: phases.append(prompts) or real(family, prompts, *rest, **how)  # noqa: E731
    monkeypatch.setattr(pictures, "draw", recorded)
    assert command("--accept", "dino > -1") == 3
    runs = {run.name: run for run in find_runs(shop.out, depth=2).runs}
    assert set(runs) == {"by-subject/mug-blue", "by-subject/mug-red"} and all(run.verdict() for run in runs.values())
    lora, full = runs["by-subject/mug-blue"].folder, runs["by-subject/mug-red"].folder
    assert (lora / "pytorch_lora_weights_kohya.safetensors").is_file() and (full / "model_index.json").is_file()
    assert not [path for run in (lora, full) for path in (*run.glob("checkpoint-*"), run / "samples") if path.exists()]
    asked = [tuple(prompts) for prompts in phases]
    untuned = [prompts for prompts in asked if "sks" not in " ".join(prompts) and prompts.count("a mug") < len(prompts)]
    assert len(untuned) == 1  # the second mug took the pictures of the first
    assert len(list((shop.out / "shared" / "class_images").iterdir())) == 1
    assert json.loads((lora / "scores.json").read_text())["protocol"]["model"] == "mug-blue"
    assert "mug-blue: accepted" in capsys.readouterr().out.replace("\n", " ")
    assert main(["generate", str(lora), "a [V] mug", "--num_images", "1", "--output_dir", str(shop.root / "drawn")]) == 0


def test_prompts_of_ones_own_name_the_class_and_decide_whether_a_row_is_done_again(shop, command):
    shop.write("shoe,shoe,photos/shoe")
    prompts, scores = shop.root / "prompts.txt", shop.out / "by-subject" / "shoe" / "scores.json"
    prompts.write_text("a [V] {noun} on the beach\n")
    assert command("--prompts", str(prompts)) == 0
    assert [one["prompt"] for one in json.loads(scores.read_text())["per_prompt"]] == ["a [V] shoe on the beach"]
    request = shop.request(prompts=str(prompts))
    product = read_products(shop.table, shop.training)[0]
    before = job_of(request, product).key
    assert job_of(request, product).key == before
    prompts.write_text("a [V] {noun} in the snow\n")
    assert job_of(request, product).key != before


def test_without_scores_the_pictures_are_those_of_the_training(shop, command):
    shop.write("shoe,shoe,photos/shoe")
    assert command("--no-evaluate", "--keep", "everything") == 0
    run = shop.out / "by-subject" / "shoe"
    assert list(run.glob("samples/final/*.png")) and not (run / "scores.json").exists()
    with Image.open(shop.out / "shown" / "shoe.jpg") as strip:
        assert strip.width > 2 * strip.height  # the photo, and what was drawn


@pytest.mark.parametrize(("cell", "said", "seed"), [("", None, 0), ("", 7, 7), ("5", 7, 5)])
def test_a_row_is_learned_from_one_seed_wherever_it_is_done(shop, cell, said, seed):
    """Without one a run draws it, and the same row came to another model each time."""
    shop.write(f"mug-blue,mug,photos/mug-blue,{cell}", head="subject,class,photos,seed")
    shop.training |= {} if said is None else {"seed": said}
    request = shop.request()
    [product] = read_products(request.table, request.training)
    jobs = [job_of(request, product, arm) for arm in ("first", "second")]
    assert [(job.seed, job.config.loop.seed) for job in jobs] == [(seed, seed)] * 2
