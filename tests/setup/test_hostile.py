"""Models, runs, plans and data sets that somebody made to do harm: each is refused in one sentence, and nothing is run, lost or written."""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from dreambooth.cli import main
from dreambooth.run.train import train
from tests import tiny
from tests.training.runs import config

TAG = "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [MARKER]]\n"
BOMB = "[" * 50_000


@dataclass
class World:
    """A base model, a finished LoRA run on it and its photos, all of a stranger's; a module of theirs; and what is the user's own."""

    root: Path

    @property
    def base(self) -> Path:
        return self.root / "base"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def private(self) -> Path:
        return self.root / "private"

    def index(self, **parts) -> None:
        path = self.base / "model_index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | parts))

    def recipe(self, **settings) -> list[str]:
        (self.base / "dreambooth.yaml").write_text(yaml.safe_dump({"full": settings}))
        return self.train()

    def settings(self, **branches) -> None:
        path = self.run / "config.yaml"
        tree = yaml.safe_load(path.read_text())
        for branch, values in branches.items():
            tree[branch] = {**tree[branch], **values} if isinstance(values, dict) else values
        path.write_text(yaml.safe_dump(tree))

    def photos_of(self, name: str) -> None:
        self.settings(photos={"instance_data_dir": str(self.root / name / "photos")})

    def train(self) -> list[str]:
        photos = ["--instance_data_dir", str(self.root / "photos-24"), "--instance_prompt", "a sks dog"]
        return [
            "train",
            "--pretrained_model_name_or_path",
            str(self.base),
            *photos,
            "--output_dir",
            str(self.root / "own run"),
            "--overwrite_output_dir",
        ]

    def again(self) -> list[str]:
        return ["train", "--config", str(self.run / "config.yaml"), "--resume_from_checkpoint", "latest", "--max_train_steps", "2"]

    def generate(self, *words: str) -> list[str]:
        return ["generate", str(self.run), "a dog", "--num_images", "1", "--num_inference_steps", "1", *words]

    def evaluate(self, *words: str) -> list[str]:
        none = ["--dino_encoder", "none", "--clip_encoder", "none"] if "--dino_encoder" not in words else []
        return ["evaluate", str(self.run), "--class_noun", "dog", *none, *words]

    def prepare(self, *words: str) -> list[str]:
        return ["photos", "prepare", str(self.root / "photos-24"), str(self.root / "copies"), *words]

    def bench(self, *words: str, **settings) -> list[str]:
        (self.root / "plan.yaml").write_text(yaml.safe_dump({"arms": {"a": {"settings": settings}}}))
        return ["bench", str(self.root / "plan.yaml"), "--output_dir", str(self.root / "bench"), "--dry_run", *words]

    def dataset(self, name: str) -> list[str]:
        tiny.photos(self.root / "set" / "dog7")
        (self.root / "set" / "subjects.csv").write_text(f"subject_name,class,live\ndog7,dog,1\n{name},dog,1\n")
        return self.bench("--dataset_dir", str(self.root / "set"))

    def write(self, name: str, text: str) -> None:
        self.lose(name)
        (self.root / name).write_text(text.replace("MARKER", str(self.root / "was run")))

    def lose(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def link(self, name: str, target: str) -> None:
        path = self.root / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(self.root / target)

    def pickled(self) -> None:
        path = self.base / "unet" / "diffusion_pytorch_model.safetensors"
        torch.save(load_file(path), path.with_suffix(".bin"))
        path.unlink()

    def pickled_lora(self) -> str:
        torch.save({"unet.a": torch.zeros(1)}, self.root / "lora.bin")
        return str(self.root / "lora.bin")

    def sharded(self) -> None:
        path = self.base / "unet" / "diffusion_pytorch_model.safetensors"
        path.rename(self.private / "x.safetensors")
        (path.parent / "diffusion_pytorch_model-00001-of-00002.safetensors").write_bytes(b"")
        index = {"metadata": {}, "weight_map": {"conv_in.weight": "../../private/x.safetensors"}}
        path.with_suffix(".safetensors.index.json").write_text(json.dumps(index))

    def coded(self) -> str:
        """A folder of an encoder whose configuration names a module beside it."""
        folder = self.root / "encoder"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"model_type": "stranger", "auto_map": {"AutoConfig": "stranger.Method"}}))
        shutil.copyfile(self.root / "stranger.py", folder / "stranger.py")
        return str(folder)

    def files(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.root)): path.read_bytes() for path in sorted(self.root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def sent(pipelines, tmp_path_factory):
    """What came by mail, made once."""
    root = tmp_path_factory.mktemp("sent")
    shutil.copytree(pipelines("stable_diffusion"), root / "base")
    few = {"max_train_steps": 1, "checkpointing_steps": 1, "method": "lora", "with_prior_preservation": False, "output_dir": root / "run"}
    list(train(config(root / "base", root=root, **few)))
    shutil.copytree(root / "run", root / "own run")
    (root / "private").mkdir()
    (root / "private" / "letter.json").write_text('{"password": "hunter2"}')
    tiny.photos(root / "private" / "photos", size=(40, 40))
    (root / "stranger.py").write_text(f"open({str(root / 'was run')!r}, 'w')\n\nclass Method:\n    pass\n")
    return root


CASES = {
    "a recipe that deletes": ("sets overwrite_output_dir", lambda w: w.recipe(overwrite_output_dir=True)),
    "a recipe that uploads": ("sets hub_model_id", lambda w: w.recipe(push_to_hub=True, hub_model_id="stranger/mine")),
    "a recipe that opens pickles": ("sets allow_pickle", lambda w: w.pickled() or w.recipe(allow_pickle=True)),
    "a recipe that writes elsewhere": ("sets output_dir", lambda w: w.recipe(output_dir=str(w.private))),
    "a recipe that names a class": ("sets method", lambda w: w.recipe(method="stranger:Method")),
    "a recipe with a tag of Python": ("tag", lambda w: w.write("base/dreambooth.yaml", TAG) or w.train()),
    "a recipe of brackets": ("nested", lambda w: w.write("base/dreambooth.yaml", BOMB) or w.train()),
    "a recipe that is a link": ("link", lambda w: w.link("base/dreambooth.yaml", "private/letter.json") or w.train()),
    "an index of a stranger's module": ("stranger.Method", lambda w: w.index(vae=["stranger", "Method"]) or w.train()),
    "an index of a stranger's pipeline": ("no family", lambda w: w.index(_class_name="stranger") or w.train()),
    "an index of a part elsewhere": ("../private", lambda w: w.index(**{"../private": ["diffusers", "AutoencoderKL"]}) or w.train()),
    "an index of brackets": ("nested", lambda w: w.write("base/model_index.json", BOMB) or w.train()),
    "weights that are a pickle": ("pickle", lambda w: w.pickled() or w.train()),
    "weights in shards elsewhere": ("leads out", lambda w: w.sharded() or w.train()),
    "a configuration that is a link": ("link", lambda w: w.link("base/vae/config.json", "private/letter.json") or w.train()),
    "a tokenizer without words": ("tokenizer.json", lambda w: w.lose("base/tokenizer/tokenizer.json") or w.train()),
    "an encoder with code": ("--dino_encoder", lambda w: w.evaluate("--dino_encoder", w.coded())),
    "a detector with code": ("--detector: ", lambda w: w.prepare("--detector", w.coded())),
    "a LoRA that is a pickle": ("--lora", lambda w: w.generate("--lora", w.pickled_lora())),
    "a run's own code, to train": ("--trust_code", lambda w: w.settings(method={"kind": "stranger:Method"}) or w.again()),
    "a run's own code, to draw": ("stranger:Method", lambda w: w.settings(method={"kind": "stranger:Method"}) or w.generate()),
    "a run's own code, to score": ("stranger:Method", lambda w: w.settings(method={"kind": "stranger:Method"}) or w.evaluate()),
    "a run that deletes": ("sets overwrite_output_dir", lambda w: w.settings(output={"overwrite_output_dir": True}) or w.again()),
    "a run that uploads": ("sets push_to_hub", lambda w: w.settings(output={"push_to_hub": True}) or w.again()),
    "a run that opens pickles": ("pickle", lambda w: w.pickled() or w.settings(model={"allow_pickle": True}) or w.generate()),
    "a run that opens pickles to score": ("pickle", lambda w: w.pickled() or w.settings(model={"allow_pickle": True}) or w.evaluate()),
    "a run that writes through a link, to draw": ("link", lambda w: w.link("run/samples", "private") or w.generate()),
    "a run that writes through a link, to score": ("link", lambda w: w.link("run/samples", "private") or w.evaluate()),
    "a run with a link for its lock": ("link", lambda w: w.link("run/.dreambooth.lock", "private/letter.json") or w.evaluate()),
    "a run with results behind a link": ("link", lambda w: w.link("run/.incoming", "private") or w.generate()),
    "a run with results behind a link, to train": ("link", lambda w: w.link("own run/.incoming", "private") or w.train()),
    "a run that shows private photos": ("not trained on", lambda w: w.photos_of("private") or w.evaluate()),
    "a run with a tag of Python": ("tag", lambda w: w.write("run/config.yaml", TAG) or w.generate()),
    "a run whose record is brackets": ("nested", lambda w: w.write("run/run.json", BOMB) or w.generate()),
    "a run whose record is a list": ("run.json", lambda w: w.write("run/run.json", "[]") or w.evaluate()),
    "a plan that names a class": ("--trust_code", lambda w: w.bench(method="stranger:Method")),
    "a plan that opens pickles": ("allow_pickle", lambda w: w.bench(allow_pickle=True)),
    "a plan that deletes": ("overwrite_output_dir", lambda w: w.bench(overwrite_output_dir=True)),
    "a plan that uploads": ("push_to_hub", lambda w: w.bench(push_to_hub=True)),
    "a plan that reports": ("report_to", lambda w: w.bench(report_to=["wandb"])),
    "a plan that keeps models elsewhere": ("cache_dir", lambda w: w.bench(cache_dir=str(w.private))),
    "a data set of other folders": ("../private/photos", lambda w: w.dataset("../private/photos")),
    "a data set with a link": ("link", lambda w: w.link("set/linked", "private/photos") or w.dataset("linked")),
}  # fmt: skip


@pytest.mark.parametrize(("word", "made"), CASES.values(), ids=CASES)
def test_it_is_refused_in_a_sentence_and_nothing_is_run_lost_or_written(word, made, sent, tmp_path, monkeypatch, capsys):
    root = shutil.copytree(sent, tmp_path / "here")
    for path in (root / "stranger.py", root / "run" / "config.yaml"):
        path.write_text(path.read_text().replace(str(sent), str(root)))
    monkeypatch.syspath_prepend(root)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # what somebody in a hurry answers, were they asked
    world = World(root)
    words = made(world)
    before = world.files()
    capsys.readouterr()
    assert main(words) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("dreambooth: ") and printed.count("\n") == 1 and "Traceback" not in printed, printed
    assert word in printed and "hunter2" not in printed
    assert "stranger" not in sys.modules and not (root / "was run").exists()
    assert world.files() == before
