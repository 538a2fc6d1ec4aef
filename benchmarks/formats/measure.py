"""How far the pictures of an exported file are from the run's own: `python -m benchmarks.formats.measure` trains a run for a few updates
for each family and method, on pipelines of test size in the real layout, exports it as every format that takes it, and notes the largest
difference of two pictures, in levels of 255, in differences.json. What is there already is not done again.
"""

import json
import sys
import tempfile
from pathlib import Path

from dreambooth.families import FAMILIES, Family
from dreambooth.files.atomic import write_json
from dreambooth.formats import FORMATS
from dreambooth.run.export import ExportConfig, Exported, export
from dreambooth.run.train import train
from dreambooth.setup.given import train_config
from tests import tiny

PLACE = Path(__file__).with_name("differences.json")
LEARNED = {
    "full": {"method": "full", "learning_rate": 1e-3}, "lora": {"method": "lora", "rank": 3, "lora_alpha": 2.0},
    "dora": {"method": "lora", "rank": 2, "use_dora": True}, "loha": {"method": "loha", "rank": 2, "lora_alpha": 3.0},
    "lokr": {"method": "lokr", "rank": 1, "lora_alpha": 2.0}, "oft": {"method": "oft", "oft_blocks": 2, "learning_rate": 0.3},
    "textual_inversion": {"method": "textual_inversion", "class_noun": "dog", "learning_rate": 0.1},
}  # fmt: skip
"""Settings of each method, so strong that a picture shows them."""
SHARED = {
    "max_train_steps": 3, "learning_rate": 3e-2, "with_prior_preservation": False, "seed": 2, "train_batch_size": 1,
    "skip_final_inference": True, "center_crop": True,
}  # fmt: skip
SHAPED = {"Stable Diffusion": tiny.sd_shaped, "Stable Diffusion XL": tiny.sdxl_shaped}
"""With the real count of levels, for single files."""


def measure(family: type[Family], method: str, root: Path) -> dict[str, int]:
    """The largest difference by format."""
    model, run = root / "model", root / method
    if not model.exists():
        own = {build().__class__.__name__: build for build in tiny.PIPELINES.values()}
        (SHAPED.get(family.name) or own[family.pipelines[0]])().save_pretrained(model)
    side = 64 if family.name in SHAPED else 16
    prompt = {} if method == "textual_inversion" else {"instance_prompt": "a sks dog", "identifier": "sks"}
    given = {
        **SHARED, **LEARNED[method], **prompt, "resolution": side, "output_dir": str(run), "pretrained_model_name_or_path": str(model),
        "instance_data_dir": str(tiny.photos(root / "photos", size=(side, side))),
    }  # fmt: skip
    for _ in train(train_config(**given)):
        pass
    found = {}
    for name, format in FORMATS.items():
        if format.readers(family, method):
            config = ExportConfig(run=str(run), format=name)  # type: ignore[arg-type]
            done = [record for record in export(config) if isinstance(record, Exported)][-1]
            found[name] = done.record["compared"]["max_difference"]
    return found


def main() -> int:
    """Measure what is missing."""
    known = json.loads(PLACE.read_text(encoding="utf-8")) if PLACE.is_file() else {}
    wanted = sys.argv[1:]
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as root:
            for method in LEARNED:
                takes = [name for name, format in FORMATS.items() if format.readers(family, method)]
                if not takes or set(takes) <= known.get(family.name, {}).get(method, {}).keys() or (wanted and family.name not in wanted):
                    continue
                known.setdefault(family.name, {})[method] = measure(family, method, Path(root))
                write_json(PLACE, known)
                print(family.name, method, known[family.name][method], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
