"""The prior's pictures, drawn once for all jobs that want the same: by the first that comes, while the others wait."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from dreambooth.bench.job import Job, JobProgress, moves
from dreambooth.core.device import pick_device
from dreambooth.families import family_of, fingerprint
from dreambooth.files.atomic import writable_folder
from dreambooth.files.images import is_whole_png
from dreambooth.files.locks import held
from dreambooth.files.reading import Damaged, read_json
from dreambooth.prompts.placeholder import class_prompt
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.model import configure_tokenizers, how_drawn
from dreambooth.training.prior import MANIFEST, ClassImages, Manifest, set_digest


def class_images(job: Job, config: TrainConfig) -> Generator[JobProgress, None, tuple[Path | None, bool]]:
    """The folder to train with (None without a prior), and whether other jobs had drawn it already."""
    if not config.has_prior:
        return None, False
    prompt = config.photos.class_prompt or class_prompt(config.photos.class_noun or job.noun)
    base, precision = fingerprint(config.model.folder()), config.prior.prior_generation_precision or config.loop.mixed_precision
    asked = ClassImages(Path(), prompt, 0, config.prior.sampling(config.cropping.resolution or 1), base, how_drawn(config))
    folder = Path(job.shared) / "class_images" / set_digest(asked.made_with)
    count = config.prior.num_class_images
    with held(folder.with_suffix(".lock")):
        if _drawn(folder, count):
            return folder, True
        yield JobProgress(job.key, "class images", 0, count)
        family = family_of(config.model).load(config.model)
        configure_tokenizers(family, config.text)
        family.to(pick_device(config.loop.device))
        size = config.cropping.resolution or family.native_resolution
        writable_folder(folder, "--output_dir")
        images = replace(asked, folder=folder, count=count, sampling=config.prior.sampling(size))
        for _ in images.mend():
            continue
        yield from moves(job, images.draw(family, batch_size=config.prior.sample_batch_size, precision=precision))
    return folder, False


def _drawn(folder: Path, count: int) -> bool:
    """Whether the first `count` pictures of the folder's manifest are there and whole."""
    try:
        names = list(read_json(folder / MANIFEST, Manifest)["images"])[:count]
    except (FileNotFoundError, Damaged):
        return False
    return len(names) == count and all(is_whole_png(folder / name) for name in names)
