"""Tokens and passwords: in no message, file, log or command line that is kept."""

import io
import sys
import types

import pytest
import yaml

from dreambooth.bench.executors.attempt import _unforeseen
from dreambooth.cli import main
from dreambooth.core.errors import RunError, SettingError, first_line
from dreambooth.run.trackers import Wandb
from dreambooth.schema import flags
from dreambooth.setup.config import TrainConfig, dump
from dreambooth.setup.given import train_config
from tests.cli.test_bad_input import command, refused
from tests.training.runs import config

__all__ = ["command"]

TOKEN = "hf_" + "aB3" * 12


@pytest.mark.parametrize("value", [["T"], {"a": "T"}, 5, ("T", "T"), [["T"]]])
def test_a_token_of_another_kind_is_refused_without_being_said_back(value):
    given = yaml.safe_load(str(value).replace("T", TOKEN).replace("(", "[").replace(")", "]"))
    with pytest.raises(SettingError, match="--hub_token: should be") as printed:
        TrainConfig.parse({"output": {"hub_token": given}})
    assert TOKEN not in str(printed.value) and repr(given) not in str(printed.value)


@pytest.mark.parametrize("tree", [{"output": TOKEN}, {"output": {"hub_private": TOKEN}}, {"hub_token": TOKEN}, {"preset": TOKEN}])
def test_a_token_in_the_place_of_something_else_is_not_said_back(tree):
    with pytest.raises(SettingError) as printed:
        TrainConfig.parse(tree)
    assert not any("hf_aB3" in text for text in (str(printed.value), printed.value.reason, printed.value.setting, printed.value.fix))


def test_a_token_at_the_end_of_what_is_cut_off_is_not_reported_in_part():
    printed = SettingError("--output_dir", "x" * 660 + " " + TOKEN)
    assert "hf_" not in str(printed)


def test_a_token_stands_in_no_text_that_is_made_of_a_configuration():
    found = train_config(push_to_hub=True, hub_token=TOKEN)
    changed = found.updated({("loop", "seed"): 3})
    texts = [repr(found), str(found), yaml.safe_dump(dump(found)), changed.model_dump_json(), repr(changed), repr(found.model_dump())]
    assert not any(TOKEN in text for text in texts)
    assert changed.output.hub_token.get_secret_value() == TOKEN, "and it is still there"


def test_every_setting_that_is_a_token_or_a_password_is_a_secret():
    """A new one is seen here."""
    named = {name for name in flags(TrainConfig) if any(word in name for word in ("password", "secret", "api_key", "hub_token"))}
    assert named == {name for name, flag in flags(TrainConfig).items() if flag.is_secret} == {"hub_token"}


@pytest.mark.parametrize(
    "said", [f"Illegal header value b'Bearer {TOKEN}\\n'", "no host for s3://me:pass@host/x", f"https://{TOKEN}@huggingface.co/a/b"]
)
def test_what_a_library_says_of_a_token_or_a_password_is_left_out(said, capsys, monkeypatch):
    def fails(argv):
        raise ValueError(said)

    monkeypatch.setattr("dreambooth.cli.photos.main", fails)
    assert main(["photos"]) == 1
    for printed in (capsys.readouterr().err, first_line(ValueError(said)), str(RunError(said))):
        assert "***" in printed and TOKEN not in printed and "pass" not in printed


def test_the_hubs_own_words_about_a_token_are_reported_without_it(monkeypatch, tmp_path):
    import huggingface_hub

    from dreambooth.run.hub import check_push

    class Refuses:
        def __init__(self, token):
            self.token = token

        def whoami(self):
            raise ValueError(f"invalid header: {self.token!r}")

    monkeypatch.setattr(huggingface_hub, "HfApi", Refuses)
    for token in ("short", "with\nnewline", TOKEN):
        with pytest.raises(SettingError, match="--push_to_hub") as printed:
            check_push(train_config(push_to_hub=True, hub_token=token, hub_model_id="a/b"), tmp_path)
        assert token not in str(printed.value) and repr(token)[1:-1] not in str(printed.value)


@pytest.mark.parametrize("words", [["--hub_token", "any"], ["--hub-token=any"], ["--hub_token=any"], ["--hub-token", "any"], [TOKEN]])
def test_wandb_which_keeps_the_command_line_gets_it_without_the_token(words, monkeypatch, tmp_path):
    kept: list[list[str]] = []
    fake = types.SimpleNamespace(init=lambda **_: kept.append(list(sys.argv)) or types.SimpleNamespace(finish=lambda: None))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(sys, "argv", ["dreambooth", "train", "--rank", "3", *words, "--seed", "4"])
    Wandb(tmp_path / "logs", {}).close()
    assert kept and "any" not in " ".join(kept[0]) and TOKEN not in kept[0] and kept[0][-2:] == ["--seed", "4"] and "3" in kept[0]


def test_the_traceback_of_a_job_is_kept_without_passwords(tmp_path):
    job = types.SimpleNamespace(folder=str(tmp_path))
    try:
        raise KeyError(f"s3://me:pass@host/{TOKEN}")
    except KeyError as error:
        failed = _unforeseen(job, error)
    kept = (tmp_path / "traceback.txt").read_text()
    assert "KeyError" in kept and not any(word in text for text in (kept, failed.reason) for word in ("me:pass", TOKEN))


def test_a_bench_takes_no_token_to_its_workers(capsys):
    refused(capsys, ["bench", "recipe", "--hub_token", TOKEN, "--dry_run"], "--hub_token")


def test_a_run_leaves_its_token_in_no_file(pipelines, monkeypatch, tmp_path):
    from dreambooth.run import train as stream

    monkeypatch.setattr("dreambooth.run.request.check_push", lambda *_: None)
    monkeypatch.setattr("dreambooth.run.train.push", lambda *_: "https://hub/a/b")
    settings = config(
        pipelines("stable_diffusion"), root=tmp_path, max_train_steps=2, checkpointing_steps=1, method="lora", report_to="tensorboard",
        output_dir=tmp_path / "run", push_to_hub=True, hub_token=TOKEN,
    )  # fmt: skip
    printed = io.StringIO()
    for record in stream.train(settings):
        print(record, file=printed)
    assert "https://hub/a/b" in printed.getvalue() and TOKEN not in printed.getvalue()
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) > 10 and not [path for path in files if TOKEN.encode() in path.read_bytes()]
