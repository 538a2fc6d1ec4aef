"""What stays of a model: nothing, its adapter, a low-rank delta that gives the model back, or everything."""

from pathlib import Path

import pytest
import torch

from dreambooth.bench.delta import compress, expand, restore
from dreambooth.bench.expand import expand as jobs_of
from dreambooth.bench.job import Failed, never
from dreambooth.bench.keep import Kept
from dreambooth.bench.ranks import scores_by_rank
from dreambooth.bench.work import work
from dreambooth.core.errors import SettingError
from dreambooth.families import ModelSource, family_of
from dreambooth.run.generate import Drawn, GenerateConfig, generate
from tests.bench.works import last

ARM = {"with_prior_preservation": False, "learning_rate": 1e-2, "max_train_steps": 1}


def done(request):
    (job,) = [item for item in jobs_of(request) if not isinstance(item, Failed)]
    return last(work(job, never)), Path(job.folder)


def test_a_delta_is_the_best_of_its_rank_and_whole_at_full_rank():
    moved = torch.randn(12, 5, 3, generator=torch.Generator().manual_seed(0)) * 1e-6
    best = torch.linalg.svdvals(moved.flatten(1))
    for rank in (1, 3):
        error = (expand(compress(moved, rank), moved.shape) - moved).norm()
        assert float(error) == pytest.approx(float(best[rank:].norm()), rel=1e-2, abs=0)
    for whole in (moved, moved[0, 0], moved.transpose(0, 1)):
        assert (expand(compress(whole, 99), whole.shape) - whole).abs().max() < 1e-3 * whole.abs().max()
    assert compress(torch.zeros(3, 3), 1) == {}


def test_a_kept_delta_gives_back_a_model_that_draws_as_the_tuned_one(ask, tmp_path):
    row, folder = done(ask({"full": {"settings": ARM}}, subjects=["dog7"], keep="delta:999"))
    assert row.kept == "delta:999" and row.kept_bytes > 0 and not (folder / "run").exists()
    restored = restore(str(folder), str(tmp_path / "restored"))
    whole = done(ask({"full": {"settings": ARM}}, subjects=["dog7"], keep="everything", output_dir=str(tmp_path / "whole")))[1] / "run"
    tuned, own = (_weights(place) for place in (whole, restored))
    base = _weights(ask().training["pretrained_model_name_or_path"])
    off = max(float((own[name] - tuned[name]).abs().max()) for name in tuned)
    assert off < 1e-3 * max(float((base[name] - tuned[name]).abs().max()) for name in tuned)
    drawn = [
        output for output in generate(GenerateConfig(run=str(restored), prompt=("a [V] dog",), num_images=1)) if isinstance(output, Drawn)
    ]
    assert drawn[0].pictures[0].finite


def test_a_delta_of_another_base_model_is_refused(ask, tmp_path, pipelines):
    _, folder = done(ask({"full": {"settings": ARM}}, subjects=["dog7"], keep="delta:1"))
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace(str(pipelines("stable_diffusion")), str(pipelines("v_prediction"))))
    with pytest.raises(SettingError, match="belongs to another"):
        restore(folder, tmp_path / "restored")


def test_an_adapter_stays_and_can_be_drawn_with(ask):
    row, folder = done(ask({"lora": {"settings": {**ARM, "method": "lora", "rank": 2}}}, subjects=["dog7"], keep="adapter"))
    assert {path.name for path in (folder / "run").glob("*.safetensors")} == {"pytorch_lora_weights.safetensors"}
    assert not list((folder / "run").glob("checkpoint-*")) and 0 < row.kept_bytes < 300_000
    assert any(
        isinstance(output, Drawn) for output in generate(GenerateConfig(run=str(folder / "run"), prompt=("a [V] dog",), num_images=1))
    )


def test_the_scores_of_a_delta_approach_those_of_the_model(ask, encoder_flags):
    run = done(ask({"full": {"settings": ARM}}, subjects=["dog7"], keep="everything"))[1] / "run"
    found = list(scores_by_rank(run, [1, 999], num_prompts=1, num_images=2, class_samples=0, **encoder_flags))
    assert [one.rank for one in found] == [None, 1, 999] and found[1].size < found[2].size
    assert found[2].scores["dino"] == pytest.approx(found[0].scores["dino"], abs=0.01)


def test_nothing_but_pictures_and_the_row_stays_where_scores_are_enough(tmp_path):
    for name in ("run/unet/a.safetensors", "samples/own/0.png", "pictures/0.jpg", "row.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert Kept("scores").make(tmp_path) == 0 and Kept("everything").make(tmp_path) == 1
    Kept("scores").prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "row.json"]


def test_what_is_not_tuned_keeps_nothing_of_a_model_in_a_plan_that_keeps_deltas(ask):
    row, folder = done(ask({"untuned": {"model": "untuned"}}, subjects=["dog7"], keep="delta:4"))
    assert (row.kept, row.kept_bytes) == ("scores", 0) and not list(folder.glob("*.safetensors"))


def _weights(folder) -> dict[str, torch.Tensor]:
    source = ModelSource(pretrained_model_name_or_path=str(folder))
    return dict(family_of(source).load(source).denoiser.state_dict())


def test_ranks_names_the_settings_that_are_missing(capsys):
    from dreambooth.bench import ranks

    for words, message in ((["run"], "a run and the ranks are needed"), (["run", "4", "--num_prompts"], "Write --num_prompts=VALUE.")):
        with pytest.raises(SettingError, match=message):
            ranks.main(words)
