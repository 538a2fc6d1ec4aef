"""The settings of `dreambooth evaluate`."""

from typing import Annotated, Literal

from annotated_types import Ge, Le

from dreambooth.core.device import Precision
from dreambooth.evaluation.protocol import Application
from dreambooth.families.sampling import Sampling
from dreambooth.metrics.encoders import EncoderSettings
from dreambooth.schema import BASIC, Count, Seed, Setting


class EvaluateConfig(Setting):
    """Score a run: DINO, CLIP-I, CLIP-T, PRES and DIV with intervals, beside the untuned model and the real photos."""

    positional = ("run",)

    run: Annotated[str, BASIC]
    """The run's folder, RUN@300 or RUN@best for one of its checkpoints, a pipeline folder, or a Hub id."""
    num_images: Annotated[Count, BASIC] = 4
    """Pictures of each prompt."""
    num_prompts: Annotated[Count | None, BASIC] = None
    """Prompts, spread evenly over the list; automatic: all of them."""
    prompt_list: Literal["auto", "object", "live", "toybox"] = "auto"
    """DreamBench's 25 prompts for objects or live subjects, or those that the toybox can show; auto goes by class noun and base model."""
    applications: tuple[Application, ...] = ()
    """The paper's applications instead of DreamBench's list."""
    prompts: Annotated[str | None, BASIC] = None
    """Text file with one prompt a line instead of DreamBench's list; [V] stands for the subject's identifier."""
    seed: Annotated[Seed, BASIC] = 0
    """Seed of each prompt's first picture (the next ones count up), and of the bootstrap."""
    class_samples: Annotated[int, Ge(0), Le(10**6), BASIC] = 64
    """Pictures of the class alone, seeds 0, 1 ..., for PRES and for the class's diversity; 0 leaves both out."""
    untuned: bool = True
    """Draw the same with the untuned model; without it there is no verdict."""
    class_noun: Annotated[str | None, BASIC] = None
    """What the subject is; automatic: as in the run."""
    identifier: str | None = None
    """What [V] stands for; automatic: as in the run."""
    instance_data_dir: str | None = None
    """Folder of the subject's photos; automatic: as in the run."""
    output_dir: Annotated[str | None, BASIC] = None
    """Folder of scores, report and pictures; automatic: the run's own, and RUN/evaluation/checkpoint-N for a checkpoint."""
    batch_size: Count = 4
    """Pictures drawn at a time; halved by itself when memory runs out."""
    lora: str | None = None
    """A LoRA file or folder, or RUN@300 or RUN@best, to put on the model; the untuned model goes without it."""
    mixed_precision: Precision | None = None
    """Precision of the drawing; automatic: that of the run."""
    device: str | None = None
    """cpu, cuda, mps ...; automatic: the accelerator of this machine."""
    single_file_config: str | None = None
    """For a single file: a pipeline folder of its kind, of which configurations and tokenizers are taken."""
    allow_pickle: bool = False
    """Also load a base model's weights saved as pickles. A pickle can run any code: only for files you trust."""
    verify: bool = True
    """Hold the bytes of a run's weights against their digests while they are loaded."""
    encoders: EncoderSettings = EncoderSettings()
    sampling: Sampling = Sampling()
