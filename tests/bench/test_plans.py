"""Plans: what is shipped can be run, sweeps are laid out, and what does not exist is named with its nearest name."""

import pytest

from dreambooth.bench.config import BenchConfig
from dreambooth.bench.datasets import open_dataset
from dreambooth.bench.expand import Request, expand, relative, validate
from dreambooth.bench.job import Job
from dreambooth.bench.plan import parse_plan, plans, read_plan
from dreambooth.core.errors import SettingError
from dreambooth.setup.given import train_config

TREE = {"name": "p", "title": "P"}


@pytest.mark.parametrize("name", plans())
def test_every_shipped_plan_can_be_run_on_the_toybox(name, tmp_path):
    plan = read_plan(name)
    request = Request(plan, BenchConfig(plan=name, num_subjects=1, num_prompts=2, output_dir=str(tmp_path)), open_dataset(None, tmp_path))
    validate(request)
    jobs = list(expand(request))
    assert [job.arm for job in jobs] == list(plan.layout().arms) and len({job.key for job in jobs}) == len(jobs) == request.count
    assert plan.layout().baseline in (None, *plan.layout().arms)


def test_a_sweep_is_a_product_or_a_list():
    product = {"a {rank}": {"settings": {"method": "lora"}, "sweep": {"rank": [1, 2], "learning_rate": [1e-4, 1e-3]}}}
    assert list(parse_plan({**TREE, "arms": product}, "p").lines()) == [
        "a 1, learning_rate 0.0001", "a 1, learning_rate 0.001", "a 2, learning_rate 0.0001", "a 2, learning_rate 0.001",
    ]  # fmt: skip
    listed = {"a": {"sweep": [{"num_photos": 1}, {"num_photos": 2, "max_train_steps": 5}]}}
    lines = parse_plan({**TREE, "arms": listed}, "p").lines()
    assert [(arm.num_photos, arm.settings) for arm in lines.values()] == [(1, {}), (2, {"max_train_steps": 5})]


def test_a_factor_is_of_what_the_flag_would_be_without_it():
    recipe = train_config().model.recipe()
    steps, rate = int(recipe["full"]["max_train_steps"]), float(recipe["full"]["learning_rate"])
    lora = int(recipe["lora"]["max_train_steps"])
    assert relative({"max_train_steps": "x0.25", "learning_rate": "x2"}) == {
        "max_train_steps": round(steps / 4), "learning_rate": pytest.approx(2 * rate),
    }  # fmt: skip
    half = {"method": "lora", "max_train_steps": lora // 2, "rank": 1}
    assert relative({"method": "lora", "max_train_steps": "x0.5", "rank": "x0.01"}) == half
    with pytest.raises(SettingError, match="lora_alpha: x2 needs a number to start from"):
        relative({"method": "lora", "lora_alpha": "x2"})


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"arms": {"a": {"settings": {"lerning_rate": 1}}}}, ("p: a: lerning_rate", "Did you mean learning_rate?")),
        ({"arms": {"a": {"sweep": {"num_photo": [1]}}}}, ("num_photo", "Did you mean num_photos?")),
        ({"arms": {"a": {"setting": {}}}}, ("p: arms: a: setting", "Did you mean settings?")),
        ({"arms": {"a": {}}, "metric": ["dino"]}, ("p: metric", "Did you mean metrics?")),
        ({"arms": {"a": {}}, "metrics": ["dyno"]}, ("p: metrics", "Did you mean dino?")),
        ({"arms": {"a": {}}, "evaluation": {"num_prompt": 1}}, ("p: evaluation: num_prompt", "Did you mean num_prompts?")),
        ({"arms": {"a": {}}, "paper": {"b": {"dino": 1.0}}}, ("p: b", "no such arm")),
        ({"arms": {"a": {}}, "paper": {"a": {"dyno": 1.0}}}, ("p: paper: a", "Did you mean dino?")),
        ({"arms": {"a": {}}, "baseline": "real photos"}, ("p: real photos", "no such arm")),
        ({"arms": {"a": {"noun": "right"}}}, ("p: arms: a: noun", "correct")),
        ({"arms": {"a": {"keep": "delta"}}}, ("p: keep", "delta:16")),
        ({"arms": {"a": {"settings": {"seed": 1}}}}, ("seed", "the bench itself sets it")),
        ({"arms": {"a": {"settings": {"class_data_dir": "x"}}}}, ("class_data_dir", "the bench itself sets it")),
        ({"arms": {"a": {"settings": {"mask_dir": "x"}}}}, ("mask_dir", "the bench itself sets it")),
        ({"arms": {"a": {}}, "settings": {"dino_encoder": "x"}}, ("dino_encoder", "below `evaluation:`")),
        ({"arms": {"a": {"sweep": {"validation_guidance_scale": [1, 2]}}}}, ("all arms are evaluated alike", "own `settings:`")),
        ({"arms": {"a": {"sweep": [{"num_photos": 1}, {"num_photos": 1}]}}}, ("two of them are named",)),
        ({"arms": {}}, ("compares nothing",)),
        ({"arms": ["full", "lora"]}, ("p: arms", "no arms by name")),
        ({"arms": {"a": 3}}, ("p: arms: a", "3 is no arm")),
        ({"arms": {"a": "lora"}}, ("p: arms: a", "'lora' is no arm")),
        ({"arms": {"a": {"sweep": {"rank": []}}}}, ("p: arms: a: sweep", "over nothing")),
        ({"arms": {"a": {"sweep": {"noun": ["corect"]}}}}, ("p: arms: a: noun", "correct")),
        ({"arms": {"a": {"sweep": {"num_photos": [0]}}}}, ("p: arms: a: num_photos", "0 is too small; 1 or more")),
        ({"arms": {"a": {}}, "name": "../../y"}, ("p: name", "cannot be the name of a folder")),
        ({"arms": {"a": {}}, "metrics": ["nearest_gap"]}, ("p: metrics", "a bench does not measure 'nearest_gap'")),
    ],
)
def test_what_a_plan_cannot_hold_is_named(tree, words):
    with pytest.raises(SettingError) as raised:
        parse_plan({**TREE, **tree}, "p")
    for word in words:
        assert word in str(raised.value)


def test_evaluation_settings_are_an_arms_own_where_evaluation_passes_end_the_training():
    arms = {"a": {"settings": {"evaluate_every": 50, "stop_early": True}}}
    assert parse_plan({**TREE, "arms": arms}, "p").lines()["a"].settings["evaluate_every"] == 50


def test_a_plan_that_is_not_there_is_reported_with_those_that_are(tmp_path):
    with pytest.raises(SettingError, match="table1, table3"):
        read_plan("tabel1")
    (tmp_path / "broken.yaml").write_text("arms: [")
    with pytest.raises(SettingError, match=r"broken\.yaml, line 1, column 8: "):
        read_plan(str(tmp_path / "broken.yaml"))


def test_a_model_cannot_be_kept_in_a_way_that_its_method_does_not_have(tmp_path):
    for method, keep in (("full", "adapter"), ("lora", "delta:4")):
        plan = parse_plan({**TREE, "arms": {"a": {"settings": {"method": method}}}, "keep": keep}, "p")
        with pytest.raises(SettingError, match="--keep: a "):
            validate(Request(plan, BenchConfig(plan="p", num_subjects=1), open_dataset(None, tmp_path)))


def test_a_flag_that_every_arm_sets_is_refused_on_the_command_line(tmp_path):
    request = Request(read_plan("steps"), BenchConfig(plan="steps", num_subjects=1), open_dataset(None, tmp_path), {"max_train_steps": "5"})
    with pytest.raises(SettingError, match="--max_train_steps: no arm of steps takes it: each sets it itself"):
        validate(request)


def asked(plan, tmp_path, **training):
    return Request(plan, BenchConfig(plan="p", num_subjects=1, num_prompts=2), open_dataset(None, tmp_path), training)


def test_a_flag_of_a_method_goes_to_the_arms_that_learn_by_it(tmp_path):
    request = asked(read_plan("table1"), tmp_path, method="lora", rank=2)
    validate(request)
    settings = {job.arm: job.settings for job in expand(request)}
    assert settings["DreamBooth"]["rank"] == 2 and settings["Textual Inversion"]["method"] == "textual_inversion"
    assert "rank" not in settings["Textual Inversion"]
    with pytest.raises(SettingError, match="--num_vectors: no arm of table3 takes it"):
        validate(asked(read_plan("table3"), tmp_path, num_vectors=2))


def test_arms_that_are_one_and_the_same_are_refused(tmp_path):
    with pytest.raises(SettingError, match="'one rare token' and 'two rare tokens' are one and the same"):
        validate(asked(read_plan("identifiers"), tmp_path, identifier="sks"))


def test_what_is_wrong_with_an_arm_is_reported_with_its_name(tmp_path):
    plan = parse_plan({**TREE, "arms": {"plain": {}, "odd": {"settings": {"method": "lora", "num_vectors": 2}}}}, "p")
    with pytest.raises(SettingError, match="--num_vectors: odd: it needs"):
        validate(asked(plan, tmp_path))


def test_an_arm_with_a_base_model_of_its_own_is_drawn_as_that_models_recipe_says(pipelines, tmp_path):
    models = ["toybox", str(pipelines("stable_diffusion"))]
    plan = parse_plan({**TREE, "arms": {"{pretrained_model_name_or_path}": {"sweep": {"pretrained_model_name_or_path": models}}}}, "p")
    toybox, other = (job.evaluation for job in expand(asked(plan, tmp_path, resolution=64)))
    (alone,) = (
        job.evaluation for job in expand(asked(read_plan("recipe"), tmp_path, resolution=64, pretrained_model_name_or_path=models[1]))
    )
    assert other == alone and toybox["guidance_scale"] != other["guidance_scale"]


def test_evaluation_passes_that_end_a_training_differ_by_how_they_draw_and_use_the_given_encoders(tmp_path):
    tree = {"sweep": {"validation_inference_steps": [2, 50]}, "settings": {"stop_early": True, "evaluate_every": 50}}
    request = asked(parse_plan({**TREE, "arms": {"a": tree}}, "p"), tmp_path)
    validate(request)
    two = list(expand(request))
    assert two[0].key != two[1].key
    (job,) = expand(asked(read_plan("recipe"), tmp_path, evaluate_every=50, dino_encoder="mine"))
    assert job.settings["dino_encoder"] == "mine" == job.evaluation["dino_encoder"]
    (plain,) = expand(asked(read_plan("recipe"), tmp_path, dino_encoder="mine"))
    assert "dino_encoder" not in plain.settings


def test_a_seed_or_a_subject_named_twice_is_done_once():
    config = BenchConfig.parse({"plan": "recipe", "seeds": ["1", "1", "0"], "subjects": ["dog", "dog"]})
    assert (config.seeds, config.subjects) == ((1, 0), ("dog",))


def test_jobs_come_one_at_a_time(tmp_path):
    seeds = tuple(range(10_000))
    request = Request(read_plan("table3"), BenchConfig(plan="table3", seeds=seeds, num_prompts=2), open_dataset(None, tmp_path))
    jobs = expand(request)
    first = [next(jobs) for _ in range(4)]
    assert request.count == 2 * 25 * 10_000 and [job.subject for job in first] == ["robot_checks"] * 2 + ["duck_classic"] * 2


def test_what_decides_a_result_is_in_its_key_and_what_does_not_is_not(tmp_path):
    def job(**training):
        config = BenchConfig(plan="recipe", subjects=("dog_spots",), num_prompts=2, output_dir=str(tmp_path))
        (only,) = expand(Request(read_plan("recipe"), config, open_dataset(None, tmp_path), training))
        assert isinstance(only, Job)
        return only

    plain = job()
    assert job(evaluate_every=50).key == plain.key, "looks change nothing that is learned"
    assert job(evaluate_every=50, stop_early=True).key != plain.key, "but may end it"
    frozen = job(train_text_encoder=False)
    assert frozen.settings["train_text_encoder"] is False and frozen.key != plain.key
    assert "clip_encoder" not in job(clip_encoder="none").settings


def test_prompts_of_ones_own_are_read_by_every_job_from_where_the_bench_was_started(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert BenchConfig.parse({"plan": "table3", "prompts": "mine.txt"}).prompts == str(tmp_path / "mine.txt")
