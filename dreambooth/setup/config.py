"""The one tree of settings behind flags, YAML, Python arguments and documents; and how a value that was left out is found.

    given by hand  >  the base model's own recipe (dreambooth.yaml in its folder)  >  the family's recipe for the method  >  the default

Defaults are those of diffusers' scripts, so `--preset diffusers` is the tree without recipes, but for what DIFFUSERS says.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr

from dreambooth.core.errors import SettingError
from dreambooth.families import Family, ModelSource
from dreambooth.families.sampling import Sampling
from dreambooth.families.source import RECIPE
from dreambooth.files.packaged import TOYBOX
from dreambooth.methods import AnyMethod, Full
from dreambooth.metrics.encoders import EncoderSettings
from dreambooth.schema import BASIC, Count, Guidance, Seed, Setting, Updates, flags, get, is_set
from dreambooth.setup.trust import refuse_unteachable, untrusted
from dreambooth.training.crops import Cropping
from dreambooth.training.execution import Execution
from dreambooth.training.loop import Loop
from dreambooth.training.objective import Objective
from dreambooth.training.optimizers import Optimization
from dreambooth.training.prior import Prior
from dreambooth.training.subjects import Photos

UNEVALUATED = "nothing is evaluated (--evaluate_every)"


class Text(Setting):
    """Text"""

    train_text_encoder: bool = False
    """Train the text encoder too: more faithful, above all for faces, and more memory."""
    pre_compute_text_embeddings: bool = False
    """Run the text encoder once per prompt. Always so while it does not learn; only its contradiction is checked."""
    tokenizer_max_length: Count | None = None
    """Tokens that a prompt is padded or cut to; automatic: the tokenizer's own length."""
    text_encoder_use_attention_mask: bool = False
    """Let the text encoder attend to real tokens only, not at padding (Stable Diffusion alone)."""

    def refuse_contradictions(self) -> None:
        if self.train_text_encoder and self.pre_compute_text_embeddings:
            reason = "the text encoder cannot be trained with embeddings that were computed before."
            raise SettingError("--pre_compute_text_embeddings", reason, fix="Leave out this flag or --train_text_encoder.")

    @property
    def reading(self) -> dict[str, Any]:
        """How prompts are read; None and False as the base model's own pipeline does."""
        return self.model_dump(include={"tokenizer_max_length", "text_encoder_use_attention_mask"})


class Validation(Setting):
    """Pictures drawn while it trains"""

    validation_prompt: Annotated[str | None, BASIC] = None
    """Prompt of the pictures drawn every --validation_steps; [V] stands for the identifier."""
    validation_images: tuple[str, ...] = ()
    """For a stage that makes small pictures large: those to draw from, one drawing of each; automatic: the photos made small."""
    validation_negative_prompt: str | None = None
    """What those pictures should not show."""
    num_validation_images: Count = 4
    """How many pictures are drawn each time."""
    validation_steps: Updates | None = None
    """Steps between two drawings; automatic: 100."""
    validation_epochs: Updates | None = None
    """Epochs between two drawings, instead of --validation_steps."""
    validation_min_steps: Annotated[int, Ge(0), Le(10**9)] = 0
    """No drawing before this step."""
    validation_scheduler: str = "DPMSolverMultistepScheduler"
    """Sampler of those pictures, as `generate --scheduler` names them."""
    validation_inference_steps: Count = 25
    """Steps of that sampler."""
    validation_guidance_scale: Guidance = 7.5
    """Guidance of those pictures."""
    validation_seed: Seed = 0
    """Seed of the first picture; the next ones count up. The same in every drawing, so that progress can be seen."""
    skip_final_inference: bool = False
    """Do not draw the contact sheet at the end."""

    def sampling(self, resolution: int) -> Sampling:
        """How these pictures are drawn."""
        return Sampling(
            num_inference_steps=self.validation_inference_steps, guidance_scale=self.validation_guidance_scale,
            scheduler=self.validation_scheduler, height=resolution, width=resolution,
        ).given_by({
            "num_inference_steps": "--validation_inference_steps", "scheduler": "--validation_scheduler", "height": "--resolution",
            "width": "--resolution", "negative_prompt": "--validation_negative_prompt",
        })  # fmt: skip


class Watching(Setting):
    """Scores while it trains"""

    evaluate_every: Annotated[Updates | None, BASIC] = None
    """Steps between two evaluations on held-out prompts: DINO, CLIP-T, PRES and DIV over time, and at the end the best checkpoint."""
    evaluation_share: Annotated[float, Gt(0), Lt(1)] = 0.25
    """Largest share of the time that evaluation passes may take; one that would exceed it is left out."""
    stop_early: bool = False
    """Stop when the evaluation passes give no hope of a better checkpoint."""
    keep_best: bool = False
    """Make the best checkpoint the result: it is what the run's folder holds and what is drawn at the end, not the last weights."""

    def refuse_contradictions(self) -> None:
        if self.keep_best and not self.evaluate_every:
            reason = "no checkpoint is evaluated, so none is known to be the best."
            raise SettingError("--keep_best", reason, fix="Add --evaluate_every 100, or leave it out.")

    def unused(self) -> dict[str, str]:
        return {} if self.evaluate_every else dict.fromkeys(("stop_early", "evaluation_share"), UNEVALUATED)


class Output(Setting):
    """Where the result goes"""

    output_dir: Annotated[str | None, BASIC] = None
    """Folder of the run; automatic: dreambooth-model or lora-dreambooth-model."""
    overwrite_output_dir: bool = False
    """Train although the folder holds an earlier run, whose checkpoints are then deleted."""
    logging_dir: str = "logs"
    """Folder below the run's for trackers."""
    report_to: tuple[Literal["tensorboard", "wandb", "none"], ...] = ()
    """Trackers beside metrics.jsonl, which is always written: tensorboard, wandb."""
    push_to_hub: bool = False
    """Upload the result and its last pictures to the Hub when the run is done; never the photos, nor what names this machine."""
    hub_token: SecretStr | None = None
    """Token for the Hub; automatic: HF_TOKEN or that of `hf auth login`, which no list of processes shows. It is never written to disk."""
    hub_model_id: str | None = None
    """Name on the Hub; automatic: the folder's."""
    hub_private: bool = False
    """Make the model private on the Hub."""
    skip_save_text_encoder: bool = False
    """Leave the text encoder out of the saved pipeline."""
    output_kohya_format: bool | None = None
    """Write a second LoRA file in kohya's names, the only ones in which ComfyUI and A1111 know a UNet's layers (SD, SDXL); automatic: it is
    written, but not with DoRA, on whose names they do not agree, nor with --preset diffusers."""

    def refuse_contradictions(self) -> None:
        if self.hub_token and not self.push_to_hub:
            raise SettingError("--hub_token", "nothing is uploaded.", fix="Add --push_to_hub, or leave it out.")

    def unused(self) -> dict[str, str]:
        return {} if self.push_to_hub else dict.fromkeys(("hub_model_id", "hub_private"), "nothing is uploaded (--push_to_hub)")


class TrainConfig(Setting):
    """The settings of a training run."""

    model: ModelSource = ModelSource()
    photos: Photos = Photos()
    cropping: Cropping = Cropping()
    prior: Prior = Prior()
    method: Annotated[AnyMethod, BASIC] = Full()
    """How the model learns the subject."""
    objective: Objective = Objective()
    optimization: Optimization = Optimization()
    text: Text = Text()
    loop: Loop = Loop()
    execution: Execution = Execution()
    validation: Validation = Validation()
    watching: Watching = Watching()
    encoders: EncoderSettings = EncoderSettings()
    output: Output = Output()
    preset: Literal["recipe", "diffusers"] = "recipe"
    """Where values come from that are left out: the base model's recipe, or the defaults of diffusers' scripts."""
    trust_code: bool = False
    """Import the code that a file of settings names as its method (package.module:Class). It runs on this machine: for files you trust."""

    @property
    def has_prior(self) -> bool:
        """Whether the prior's term is in the loss: when asked for, or when a class noun was given, it was not refused
        and the method has a use for it."""
        wanted = self.prior.with_prior_preservation
        return bool(self.photos.class_noun) and not self.method.why_no_prior() if wanted is None else wanted

    def writes_kohya(self, family: type[Family]) -> bool:
        """Whether a LoRA is written in kohya's names, too."""
        if self.output.output_kohya_format is not None:
            return self.output.output_kohya_format
        is_plain = self.method.kind == "lora" and not getattr(self.method, "use_dora", False)
        return is_plain and bool(family.kohya_prefixes) and self.preset != "diffusers"

    @property
    def replaced_noun(self) -> str | None:
        """The class noun, where [V] stands for it too: prompts are filled in without it."""
        return self.photos.class_noun if self.method.replaces_noun else None

    @property
    def output_dir(self) -> Path:
        """The run's folder; left out, named after the method as diffusers' scripts name it."""
        return Path(self.output.output_dir or DIFFUSERS.get(self.method.kind, DIFFUSERS["full"])["output_dir"]).expanduser()


FOLDERS = (
    ("model", "pretrained_model_name_or_path"), ("model", "pretrained_vae_name_or_path"), ("model", "tokenizer_name"),
    ("model", "single_file_config"), ("model", "lora"),
    ("photos", "instance_data_dir"), ("photos", "concepts_list"), ("photos", "mask_dir"), ("prior", "class_data_dir"),
)  # fmt: skip
"""Settings that may name something on this disk."""
DIFFUSERS: Mapping[str, Mapping[str, Any]] = {
    "full": {"resolution": 512, "image_interpolation_mode": "bilinear", "output_dir": "dreambooth-model"},
    "lora": {"resolution": 512, "learning_rate": 5e-4, "validation_epochs": 50, "output_dir": "lora-dreambooth-model"},
    "textual_inversion": {
        "resolution": 512, "learning_rate": 1e-4, "train_batch_size": 16, "max_train_steps": 5000, "image_interpolation_mode": "bicubic",
        "center_crop": False, "random_flip": True, "output_dir": "text-inversion-model",
    },
    "custom_diffusion": {
        "resolution": 512, "learning_rate": 1e-5, "num_class_images": 200, "checkpointing_steps": 250,
        "output_dir": "custom-diffusion-model",
    },
}  # fmt: skip
"""What diffusers' scripts set otherwise than the tree's own defaults."""


def resolve(config: TrainConfig, family: type[Family]) -> TrainConfig:
    """The configuration with every value that was left out filled in from the recipes."""
    kind, tree = config.method.kind, flags(type(config))
    recipe = {"output_dir": DIFFUSERS.get(kind, DIFFUSERS["full"])["output_dir"]}
    if family.guidance_scale != Sampling().guidance_scale:
        recipe |= dict.fromkeys(("prior_guidance_scale", "validation_guidance_scale"), family.guidance_scale)
    if config.preset == "diffusers":
        recipe |= {"checkpointing_steps": 500, **DIFFUSERS.get(kind, {})}
    else:
        own = config.model.recipe().get(kind) or {}
        refuse_unteachable(own, tree, RECIPE)
        recipe |= {**family.recipe.get(kind, {}), **own}
    wanted = {tree[name].path: value for name, value in recipe.items() if not is_set(config, tree[name].path)}
    if is_set(config, ("loop", "num_train_epochs")) and not is_set(config, ("loop", "max_train_steps")):
        wanted.pop(("loop", "max_train_steps"), None)
    with recipe_named(config):
        return named(config.updated(wanted))


@contextmanager
def recipe_named(config: TrainConfig) -> Iterator[None]:
    """A block in which a wrong value of the base model's own recipe is reported as the recipe's, and not as a flag's that nobody gave."""
    try:
        yield
    except SettingError as error:
        name, kind = error.setting.removeprefix("--"), config.method.kind
        own, flag = config.model.recipe().get(kind, {}), flags(type(config)).get(name)
        if config.preset == "diffusers" or not flag or name not in own:
            raise
        if is_set(config, flag.path) and str(get(config, flag.path)) != own[name]:
            raise
        raise SettingError(f"{RECIPE} ({kind}: {name})", error.reason, fix=error.fix) from None


def named(config: TrainConfig) -> TrainConfig:
    """With the new word of a method that learns one, which is the identifier; no base model is asked."""
    noun = config.photos.class_noun or ("painting" if config.photos.concept == "style" else None)
    method = config.method.named(config.photos.identifier, noun)
    values = {("method", name): getattr(method, name) for name in type(method).model_fields}
    values = {path: value for path, value in values.items() if value != get(config, path)}
    return config.updated(values | ({("photos", "identifier"): method.new_word} if method.new_word else {}))


def rooted(folder: str) -> str:
    """A folder's name from the root: one name for one folder, however it was written."""
    path = Path(folder).expanduser().absolute()
    return str(path.resolve() if ".." in path.parts else path)


def with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """With folders named from the root, so that what is written down means the same wherever it is read."""
    wanted = {}
    for branch, name in FOLDERS:
        value = getattr(getattr(config, branch), name)
        if value and value != TOYBOX and (name == "class_data_dir" or Path(value).expanduser().exists()):
            wanted[branch, name] = rooted(value)
    return config.updated(wanted)


def dump(config: TrainConfig) -> dict[str, Any]:
    """The tree as plain values, without secrets and deeds, for which each start asks anew: what `config.yaml` holds."""
    return untrusted(config.model_dump(mode="json"))


def write_yaml(config: TrainConfig) -> str:
    """`config.yaml`: complete and re-runnable with `dreambooth train --config`."""
    return yaml.safe_dump(dump(config), sort_keys=False, allow_unicode=True)
