"""A row is found again by all that decides it: what was asked for, and the defaults of the day on which each setting came to be."""

import pytest

from dreambooth.bench import defaults, expand
from dreambooth.bench.config import BenchConfig
from dreambooth.bench.datasets import open_dataset
from dreambooth.bench.expand import Request
from dreambooth.bench.plan import parse_plan

ARMS = {"full": {}, "lora": {"settings": {"method": "lora"}}, "untuned": {"model": "untuned"}}


@pytest.fixture
def keys(tmp_path, monkeypatch):
    """Keys of one full, one LoRA and one untuned job, with values that nobody asks for and no recipe names set as a default would."""
    real = expand.resolved
    bench = BenchConfig(plan="p", num_subjects=1, num_prompts=1, output_dir=str(tmp_path))
    request = Request(parse_plan({"name": "p", "title": "P", "arms": ARMS}, "p"), bench, open_dataset(None, tmp_path))

    def of(**changed) -> dict[str, str]:
        def resolved(settings):
            config = real(settings)
            for path, value in changed.items():
                branch, name = path.split("__")
                own = getattr(config, branch)
                config = (
                    config.model_copy(update={branch: own.model_copy(update={name: value})}) if name in type(own).model_fields else config
                )
            return config

        monkeypatch.setattr(expand, "resolved", resolved)
        return {job.arm: job.key for job in expand.expand(request)}

    return of


def test_every_setting_has_a_default_in_the_file():
    missing = {
        f"{branch}.{name}" for branch, values in defaults.today().items() for name in values.keys() - defaults.kept().get(branch, {}).keys()
    }
    assert not missing, "python -m tools.row_defaults adds them"


def test_defaults_that_decide_rows_are_those_that_old_rows_stand_on():
    """Not a rule but a reminder: a default that differs gives every row that leaves it out another key. Then enter it here."""
    differing = {
        f"{branch}.{name}"
        for branch, values in defaults.today().items()
        for name, value in values.items()
        if defaults.kept()[branch][name] != value
    }
    assert differing == {"prior.prior_scheduler", "prior.prior_inference_steps"}


@pytest.mark.parametrize(
    ("changed", "arms"),
    [
        ({"optimization__adam_beta1": 0.5}, {"full", "lora"}),
        ({"optimization__max_grad_norm": 3.0}, {"full", "lora"}),
        ({"cropping__crops_per_photo": 7}, {"full", "lora"}),
        ({"prior__prior_eta": 0.25}, {"full", "lora"}),
        ({"method__lora_dropout": 0.5}, {"lora"}),
        ({"loop__mixed_precision": "bf16"}, {"full", "lora", "untuned"}),
        ({"text__tokenizer_max_length": 20}, {"full", "lora", "untuned"}),
        ({"loop__log_interval": 99}, set()),
        ({"prior__sample_batch_size": 1}, set()),
    ],
)
def test_a_default_that_changes_in_the_code_changes_the_keys_of_rows_that_leave_it_out(keys, monkeypatch, changed, arms):
    """As a value, nobody's but the code's; and as the class's own default, against which nothing may be compared."""
    before, after = keys(), keys(**changed)
    assert {arm for arm in before if before[arm] != after[arm]} == arms
    for path, value in changed.items():
        branch, name = path.split("__")
        if branch != "method":
            kind = type(getattr(expand.TrainConfig(), branch))
            monkeypatch.setattr(kind.model_fields[name], "default", value)
    assert keys(**changed) == after


def test_another_default_of_the_examinations_sampler_is_another_key():
    usual = {"num_inference_steps": 30, "guidance_scale": 7.5}
    assert defaults.differing("sampling", usual) == {} and defaults.differing("sampling", {**usual, "eta": 0.5}) == {"eta": 0.5}


def test_what_the_file_does_not_know_is_in_the_key():
    assert defaults.differing("loop", {"quite_new": None}) == {"quite_new": None}
    assert defaults.differing("method.package.module:Class", {"rank": 4}) == {"rank": 4}


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"method": "lora", "rank": 4, "lora_alpha": 3.0}, {"method": "lokr"}, {"mixed_precision": "bf16", "random_flip": True},
        {"class_noun": "dog", "prior_eta": 1.0, "num_class_images": 7}, {"class_noun": "dog", "evaluate_every": 5, "stop_early": True},
        {"preset": "diffusers", "offset_noise": 0.1}, {"masked_loss": True, "identifier": "sks", "identifier_tokens": 2},
    ],
    ids=str,
)  # fmt: skip
def test_rows_that_were_written_before_there_was_a_file_are_found(settings):
    """Their keys left out what equals the defaults of their day: with those, the file leaves out the same."""
    config = expand.resolved({"instance_prompt": "a [V] dog", **settings})
    plain = config.model_dump(mode="json", exclude_defaults=True)
    for branch, values in expand.learned(config).items():
        if branch not in expand.WITHOUT_EFFECT and branch != "method":
            assert values == plain[branch], branch
    learned = expand.learned(config)
    assert learned["method"] == {**plain.get("method", {}), "kind": config.method.kind}
    for branch, leaves in expand.WITHOUT_EFFECT.items():
        kept = {name: value for name, value in plain.get(branch, {}).items() if name not in leaves}
        kept |= {"with_prior_preservation": True} if branch == "prior" else {}
        assert {**(learned[branch] or kept), "identifier_tokens": 0} == {**kept, "identifier_tokens": 0}, branch
