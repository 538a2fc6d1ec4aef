"""Does the paper's fine-tuning of a super-resolution stage bring back a subject's fine detail (section 3.3), and at which level of noise?

    python -m benchmarks.sr_finetuning.data DATA                                        # the toybox's subjects as files, once
    python -m benchmarks.sr_finetuning.run DATA --model STAGE_II --output_dir OUT       # resumable: a row a subject, arm and seed
    python -m benchmarks.sr_finetuning.table OUT                                        # the table and the figure

Scenes of each subject that nothing has learned from are made small by an area average, made large again in every way, and compared with
themselves where the subject is. Ways: bicubic; the stage untuned, at the level that tuning starts from and at its pipeline's own; a control
that was tuned as long on pictures of other subjects; the stage tuned on the subject's photos at levels 0, 13, 150 and 250, and drawn at the
same. All of a seed are drawn with equal noise.
"""

import argparse
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from benchmarks.sr_finetuning.data import SubjectFiles
from benchmarks.sr_finetuning.score import alikeness, compared
from dreambooth.core.device import pick_device
from dreambooth.families import Family, ModelSource, family_of, fingerprint
from dreambooth.families.cascade import Given, as_image, pixels_of
from dreambooth.families.sampling import Sampling, draw
from dreambooth.families.superresolution import SuperResolution
from dreambooth.files.atomic import write_json
from dreambooth.files.images import save_png
from dreambooth.files.packaged import TOYBOX
from dreambooth.files.reading import read_json
from dreambooth.metrics.encoders import EncoderSettings, LoadedEncoders
from dreambooth.prompts.tokens import pick
from dreambooth.run.train import train
from dreambooth.setup.given import train_config
from dreambooth.setup.open import Opening, open_model

LEVELS = (0, 13, 150, 250)
"""4.1e-5 (the least), the paper's 1e-3, 0.06, and 0.154, at which DeepFloyd's pipeline draws."""
DECIDING = ("method", "learning_rate", "max_train_steps", "train_batch_size", "steps", "guidance_scale")
"""Options that a row is made with."""
KEPT = 2
"""Pictures of each row that are kept for the figure."""


@dataclass(frozen=True)
class Study:
    """What all rows have in common."""

    model: Path
    out: Path
    options: argparse.Namespace
    stamp: dict[str, Any]
    encoders: LoadedEncoders
    device: torch.device


@dataclass(frozen=True)
class Arm:
    """A way of making the small pictures large."""

    name: str
    level: int | None = None
    """Of tuning and drawing; None for what is not drawn by a network."""
    learns: str | None = None
    """The folder of pictures that it is tuned on."""


def arms(base_level: int) -> list[Arm]:
    """All of them, the control at the least level as the first of the tuned."""
    tuned = [Arm(f"tuned, level {level}", level, "photos") for level in LEVELS]
    return [
        Arm("bicubic"),
        Arm("untuned, level 0", 0),
        Arm(f"untuned, level {base_level}", base_level),
        Arm("control", 0, "others"),
        *tuned,
    ]


def main() -> None:
    options = parsed()
    device = pick_device(options.device)
    source = ModelSource(pretrained_model_name_or_path=str(options.model))
    encoders = EncoderSettings().beside(TOYBOX).load(device=device)
    asked = {name: getattr(options, name) for name in DECIDING}
    study = Study(options.model, options.output_dir, options, {"model": fingerprint(source.folder()), **asked}, encoders, device)
    base = loaded(source, device)
    identifier = options.identifier or pick(base.tokenizers, seed=0)
    folders = sorted(path for path in options.data.iterdir() if (path / "subject.txt").is_file())
    chosen = [folder for folder in folders if not options.subjects or folder.name in options.subjects]
    for seed in options.seeds:  # outermost, so that a study that is stopped has whole seeds
        for folder in chosen:
            for arm in arms(base.base_level):
                if (arm.level is None and seed != options.seeds[0]) or (arm.learns and options.untuned):
                    continue
                if options.arms and arm.name not in options.arms:
                    continue
                made(study, base, SubjectFiles(folder), arm, seed, identifier)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--subjects", nargs="*")
    parser.add_argument("--untuned", action="store_true", help="only the arms that need no tuning")
    parser.add_argument("--arms", nargs="*", help="only these, by their names in the table")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--method", default="full")
    parser.add_argument("--learning_rate", type=float, default=1e-4)
    parser.add_argument("--max_train_steps", type=int, default=100)
    parser.add_argument("--train_batch_size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=25, help="of the sampler (DDIM)")
    parser.add_argument("--guidance_scale", type=float, default=1.0)
    parser.add_argument("--identifier", help="left out, a rare token of the model's tokenizer")
    parser.add_argument("--device")
    return parser.parse_args()


def loaded(source: ModelSource, device: torch.device) -> SuperResolution:
    """The untuned stage."""
    family = family_of(source).load(source)
    assert isinstance(family, SuperResolution), f"{source.pretrained_model_name_or_path} sees no smaller picture"
    family.to(device)
    return family


def made(study: Study, base: SuperResolution, subject: SubjectFiles, arm: Arm, seed: int, identifier: str) -> None:
    """A row, unless it is there, made with the same."""
    name = f"{subject.folder.name}-{arm.name.replace(', ', '-').replace(' ', '-')}-{seed}"
    path = study.out / "rows" / f"{name}.json"
    if path.is_file() and read_json(path)["stamp"] == study.stamp:
        return
    truth = [pixels_of(Image.open(file)) for file in subject.truth]
    drawn = list(pictures(study, base, subject, arm, seed, identifier, truth))
    masks = [subject.mask(file) for file in subject.truth]
    scores = [compared(one, true, mask, ratio=base.ratio) for one, true, mask in zip(drawn, truth, masks, strict=True)]
    for row, value in zip(scores, alikeness(study.encoders, drawn, truth, masks), strict=True):
        row["instance"] = value
    for place, one in enumerate(drawn[:KEPT] if seed == study.options.seeds[0] else []):
        save_png(study.out / "pictures" / subject.folder.name / f"{place}-{arm.name}.png", as_image(one), {"arm": arm.name, "seed": seed})
        save_png(study.out / "pictures" / subject.folder.name / f"{place}-truth.png", as_image(truth[place]), {"arm": "truth"})
    mean = {metric: sum(row[metric] for row in scores) / len(scores) for metric in scores[0]}
    write_json(path, {"subject": subject.folder.name, "arm": arm.name, "seed": seed, "mean": mean, "scenes": scores, "stamp": study.stamp})
    print(f"{name:<50}" + "  ".join(f"{metric} {value:.3f}" for metric, value in mean.items()), flush=True)


def pictures(
    study: Study, base: SuperResolution, subject: SubjectFiles, arm: Arm, seed: int, identifier: str, truth: list[Tensor]
) -> Iterator[Tensor]:
    """The truth made small, and large again in the arm's way, each [3, h, w]."""
    small = [avg_pool2d(picture[None], base.ratio)[0] for picture in truth]
    if arm.level is None:
        yield from (interpolate(one[None], scale_factor=base.ratio, mode="bicubic")[0].clamp(-1, 1) for one in small)
        return
    family, words = base, f"a {subject.noun}"
    if arm.learns:
        family = tuned(study, base, subject, arm, seed, identifier)
        words = f"a {identifier} {subject.noun}" if arm.learns == "photos" else words
    assert isinstance(family, SuperResolution)
    family.noise_levels = (arm.level, arm.level)
    sampling = Sampling(num_inference_steps=study.options.steps, guidance_scale=study.options.guidance_scale, scheduler="ddim")
    first = 1000 * seed
    given = Given([file.name for file in subject.truth], small, first)
    seeds = range(first, first + len(small))
    for picture in draw(family, [words] * len(small), seeds, sampling=sampling, smaller=given, batch_size=8, keeps_pixels=True):
        assert picture.pixels is not None
        yield picture.pixels


def tuned(study: Study, base: SuperResolution, subject: SubjectFiles, arm: Arm, seed: int, identifier: str) -> Family:
    """The stage tuned on pictures of the subject, or of others, at the arm's level; the run itself is not kept."""
    assert arm.level is not None and arm.learns is not None
    options, folder = study.options, study.out / "work"
    shutil.rmtree(folder, ignore_errors=True)
    settings = {
        "pretrained_model_name_or_path": str(study.model), "instance_data_dir": str(subject.folder / arm.learns), "output_dir": str(folder),
        "instance_prompt": f"a {identifier} {subject.noun}", "identifier": identifier, "use_captions": arm.learns == "others",
        "method": options.method, "learning_rate": options.learning_rate, "max_train_steps": options.max_train_steps, "seed": seed,
        "train_batch_size": options.train_batch_size, "noise_augmentation": base.variance(arm.level), "device": options.device,
        "resolution": Image.open(subject.truth[0]).width, "center_crop": True, "skip_final_inference": True,
        "checkpoints_total_limit": 1, "ignore_photo_errors": True,
    }  # fmt: skip
    for _ in train(train_config(**settings)):
        pass
    return open_model(str(folder), Opening(device=options.device)).family


if __name__ == "__main__":
    main()
