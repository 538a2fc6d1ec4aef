"""The model card: what the Hub shows of a result, and the lines of Python that load it elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dreambooth.core.device import DTYPES
from dreambooth.families import Family
from dreambooth.families.names import known_model
from dreambooth.families.safety import SafetyChecker
from dreambooth.files.escaping import markdown, python_text
from dreambooth.files.names import KOHYA_FILE
from dreambooth.files.packaged import TOYBOX
from dreambooth.formats import FORMATS
from dreambooth.methods import Learner
from dreambooth.run.export_facts import method_of
from dreambooth.run.material import Material
from dreambooth.setup.config import TrainConfig


def card(config: TrainConfig, material: Material, learner: Learner, record: Mapping[str, Any], *, is_public: bool = False) -> str:
    """The model card that the Hub shows. A base model in a folder of this machine has a path here, and none in public."""
    family, base, prompt = learner.family, config.model.pretrained_model_name_or_path, material.instance_prompt
    is_local = base == TOYBOX or Path(base).exists()
    if is_local and is_public:
        base = Path(base).name
    kind = type(family.pipe).__name__
    source = "." if config.method.trains_whole_parts else base
    absent = family.encoder_names if config.output.skip_save_text_encoder and source == "." else ()
    asked = {"revision": config.model.revision, "variant": config.model.variant}
    options = "".join(f", {name}={python_text(value)}" for name, value in asked.items() if value)
    precision = f", torch_dtype={DTYPES[config.loop.mixed_precision]}"  # left out, each part comes in the precision of its own file
    before = f"base = {kind}.from_pretrained({_argument(base)}{options}{precision})\n" if absent else ""
    encoders = "".join(f", {name}=base.{name}" for name in absent)
    chosen = options if source == base else ""
    toybox = "from dreambooth.files.packaged import toybox\n\n" if TOYBOX in (source, base if absent else "") else ""
    opening = "from_single_file" if source == base and Path(config.model.pretrained_model_name_or_path).is_file() else "from_pretrained"
    first = f"\n{_base_lora(config, is_public=is_public)}" if config.model.lora and source == base else ""
    pipe = f"pipe = {kind}.{opening}({_argument(source)}{chosen}{encoders}{precision})"
    load = f"{toybox}{before}{pipe}{first}\n{learner.usage_snippet()}".strip()
    kohya = f"\n`{KOHYA_FILE}` is the same LoRA for ComfyUI and A1111." if config.writes_kohya(type(family)) else ""
    terms = f"\n{family.terms}" if family.terms else ""
    head = {
        **({} if is_local else {"base_model": base}), "library_name": "diffusers", "license": "other",
        "instance_prompt": " ".join(prompt.split()), "tags": ["text-to-image", "diffusers", "dreambooth", config.method.kind],
    }  # fmt: skip
    shown = markdown(prompt)
    return f"""---
{yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=1000).strip()}
---

# {shown}

{family.name}, fine-tuned with DreamBooth ({config.method.kind}) on {len(material.photos)} photos of "{shown}"{_prior_words(material)}.
{_step_words(record)}{_checker_words(config, family)}{_licence(config)}
`run.json` in the run's own folder tells where everything comes from, `config.yaml` there repeats the run.{kohya}{terms}

```python
import torch
from diffusers import {kind}

{load}
image = pipe({python_text(f"{prompt} on the beach")}).images[0]
```

Or `dreambooth generate . "a [V] ... on the beach"`.{_elsewhere(config, family)}
"""


def _argument(source: str) -> str:
    """A model as Python names it. The embedded toybox is no name on the Hub: it lies in the package."""
    return "toybox()" if source == TOYBOX else python_text(source)


def _elsewhere(config: TrainConfig, family: Family) -> str:
    """What a run's own folder can be exported as, and who opens that: by the formats themselves."""
    opened = {name: format.readers(type(family), method_of(config)) for name, format in FORMATS.items()}
    lines = [f"- `dreambooth export RUN --as {name}`: {', '.join(readers)}" for name, readers in opened.items() if readers]
    return "\n\nFor other programs, from the run's own folder:\n\n" + "\n".join(lines) if lines else ""


def _base_lora(config: TrainConfig, *, is_public: bool) -> str:
    """The lines that add the LoRA to the base model that the run began with; in public a file has no path."""
    name = str(config.model.lora)
    name = Path(name).name if is_public and Path(name).exists() else name
    return f"pipe.load_lora_weights({python_text(name)})\npipe.fuse_lora()\npipe.unload_lora_weights()"


def _licence(config: TrainConfig) -> str:
    """Whose licence applies, and which it is where the base model is a known one."""
    known = known_model(config.model.pretrained_model_name_or_path)
    return f"The licence of the base model applies: {known.licensed} ({known.page});" if known else "The licence of the base model applies;"


def _checker_words(config: TrainConfig, family: Family) -> str:
    """What became of the base model's safety checker; nothing where it has none."""
    if family.checker:
        return "The base model's safety checker is part of this folder. " if config.method.trains_whole_parts else ""
    left_out = SafetyChecker.of(config.model.updated({("safety_checker",): True}))
    return "The base model's safety checker was left out (`--no_safety_checker`). " if left_out else ""


def _prior_words(material: Material) -> str:
    return f', with prior preservation of "{markdown(material.prior[0].prompt)}"' if material.prior else ""


def _step_words(record: Mapping[str, Any]) -> str:
    """Which weights a result has, where they are not the last ones."""
    step, last = record["result_step"], record["step"]
    return "" if step == last else f"These are the weights of step {step} of {last}, the best of the run on held-out prompts.\n"
