"""A model to draw with, from whatever a person names: a run, a checkpoint of a run, a pipeline, a Hub id, a LoRA file on a base model."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth.config import TrainConfig, config_type, named_in, read_yaml
from dreambooth.core.device import pick_device
from dreambooth.core.errors import SettingError
from dreambooth.families import Family, ModelSource, family_of
from dreambooth.families.source import told_as
from dreambooth.loras import add_lora, read_lora
from dreambooth.methods import Learner
from dreambooth.outputs import RECORD, read_record
from dreambooth.prepare import hush, learning_parts, lighten, read_as_told, round_weights
from dreambooth.training.state import STATE

CONFIG = "config.yaml"


@dataclass
class Opened:
    """A loaded family; for a run also how it was made."""

    family: Family
    name: str
    config: TrainConfig | None = None
    record: dict[str, Any] | None = None
    learner: Learner | None = None
    added: str | None = None
    """What a LoRA file has changed, in words."""

    @property
    def identifier(self) -> str | None:
        """What [V] stands for."""
        return self.config.photos.identifier if self.config else None

    @property
    def replaced_noun(self) -> str | None:
        """The class noun, where [V] stands for it too."""
        return self.config.replaced_noun if self.config else None

    @property
    def precision(self) -> str:
        """The arithmetic the run was trained and previewed in."""
        return self.config.loop.mixed_precision if self.config else "no"


def open_model(
    name: str, *, lora: str | None = None, device: str | None = None, allow_pickle: bool = False, precision: str | None = None,
    variant: str | None = None, revision: str | None = None,
) -> Opened:  # fmt: skip
    """Load a run, `RUN/checkpoint-N`, a pipeline folder or a Hub id, with a LoRA file on top when one is given.

    `precision` is the arithmetic to draw in where it is not the run's own: frozen weights of a run in half precision are then kept whole.
    Raises SettingError when there is nothing of the kind.
    """
    path = Path(name).expanduser()
    run = run_folder(path)
    hush()
    added = read_lora(lora, allow_pickle=allow_pickle) if lora else None
    if run:
        opened = _open_run(run, path, precision)
    elif (path / "pytorch_lora_weights.safetensors").is_file() and not (path / "model_index.json").is_file():
        fix = f"dreambooth generate BASE_MODEL --lora {name} ..."
        raise SettingError("model", f"{name} is a LoRA without its base model.", fix=fix)
    else:
        source = ModelSource(pretrained_model_name_or_path=name, allow_pickle=allow_pickle, variant=variant, revision=revision)
        with told_as("run"):
            opened = Opened(family_of(source).load(source), name)
        round_weights(opened.family, precision or "no")
    if added:
        opened.added = add_lora(opened.family, added)
    opened.family.to(pick_device(device))
    return opened


def read_config(run: Path) -> TrainConfig:
    """The complete configuration of a run."""
    tree = read_yaml(run / CONFIG)
    method = named_in(tree)
    _refuse_own_code(run, method or "")
    return config_type(method).parse(tree)


def _refuse_own_code(run: Path, method: str) -> None:
    """Raise SettingError for a method whose code lies in the run itself: a folder that somebody sent would run it here."""
    module = method.rpartition(":")[0].split(".")
    for place in sys.path if module != [""] else ():
        code = Path(place or ".").resolve().joinpath(*module)
        if code.is_relative_to(run.resolve()) and (code.is_dir() or code.with_suffix(".py").exists()):
            reason = f"{run / CONFIG} names a method whose code lies in the run's own folder ({code})."
            raise SettingError("run", reason, fix="If you trust it, move that file to where Python finds it.")


def run_folder(path: Path) -> Path | None:
    """The run that a path is, or lies in as a checkpoint."""
    for folder in (path, path.parent):
        whole = (folder / RECORD).is_file() and (folder / CONFIG).is_file()
        if whole and (folder == path or path.name.startswith("checkpoint-")):
            return folder
    return None


def _open_run(run: Path, path: Path, precision: str | None) -> Opened:
    config, record = read_config(run), read_record(run)
    is_checkpoint = path != run
    if is_checkpoint and not (path / STATE / "state.json").is_file():
        raise SettingError("model", f"{path} is no whole checkpoint.", fix="Name another checkpoint of the run.")
    whole = config.method.trains_whole_parts
    if not is_checkpoint and record.get("state") != "finished" and not (path / ("model_index.json" if whole else "README.md")).is_file():
        fix = f"Finish it with --resume_from_checkpoint latest, or name one of its checkpoints ({run}/checkpoint-N)."
        raise SettingError("model", f"the run {run} is {record.get('state', 'not finished')}.", fix=fix)
    if whole and not is_checkpoint:
        source = config.model.updated({("pretrained_model_name_or_path",): str(run), ("pretrained_vae_name_or_path",): None,
                                       ("tokenizer_name",): None, ("variant",): None, ("revision",): None})  # fmt: skip
        family = family_of(source).load(source, replaced=_encoders_of_base(config))
        learner = None
    else:
        family = family_of(config.model).load(config.model)
        parts = learning_parts(config, family)
        own = precision or config.loop.mixed_precision
        lighten(family, config.method, own)  # before, as in training: small weights stay
        learner = config.method.attach(family, parts, seed=0)
        learner.load(path)
    read_as_told(family, config.text)
    for part in family.parts.values():
        part.requires_grad_(False).eval()
    return Opened(family, str(path), config, record, learner)


def _encoders_of_base(config: TrainConfig) -> dict[str, Any]:
    """The base model's text encoders, where the run has left them out of its result."""
    if not config.output.skip_save_text_encoder:
        return {}
    base = family_of(config.model).load(config.model)
    return {name: base.parts[name] for name in base.encoder_names}
