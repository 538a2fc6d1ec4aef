"""Where the class images of a job are: one folder for all jobs that want the same, in which their trainings draw what is missing."""

from pathlib import Path

from dreambooth.bench.job import Job
from dreambooth.families import fingerprint
from dreambooth.prompts.placeholder import class_prompt
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.model import how_drawn, stored_precision
from dreambooth.training.prior import ClassImages, set_digest


def class_images(job: Job, config: TrainConfig) -> tuple[Path | None, bool]:
    """The folder to train with (None without a prior), and whether its pictures are there already."""
    if not config.has_prior:
        return None, False
    prompt = config.photos.class_prompt or class_prompt(config.photos.class_noun or job.noun)
    sampling, base = config.prior.sampling(config.cropping.resolution or 1), fingerprint(config.model.folder())
    made_with, weights = ClassImages(Path(), prompt, 0, sampling, base, how_drawn(config)).made_with, stored_precision(config)
    rounded = {} if weights == "float32" else {"weights": weights}  # draw other bits
    folder = Path(job.shared) / "class_images" / set_digest({**made_with, **rounded})
    return folder, len(list(folder.glob("*.png"))) >= (config.prior.num_class_images or 0)
