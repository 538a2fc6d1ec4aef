"""Write docs/settings.md from the tree of settings; with --check, fail when the page in the repository differs."""

import sys
from pathlib import Path

from dreambooth.bench.batch.config import BatchConfig, RemovalConfig
from dreambooth.bench.config import BenchConfig
from dreambooth.cli.aliases import ALIASES
from dreambooth.cli.cache import CacheList, CachePrune
from dreambooth.cli.demo import DemoConfig
from dreambooth.cli.doctor import Doctor
from dreambooth.cli.encoders import EncodersGet
from dreambooth.cli.models import ListModels
from dreambooth.cli.runs import RunsCompare, RunsList, RunsRemove, RunsShow, RunsTell
from dreambooth.cli.ui import Ui
from dreambooth.evaluation import EvaluateConfig
from dreambooth.identifier.search import IdentifierSearch
from dreambooth.photos.check import PhotosCheck
from dreambooth.photos.prepare import PhotosPrepare
from dreambooth.run.captioning import PhotosCaption
from dreambooth.run.export import ExportConfig
from dreambooth.run.generate import GenerateConfig
from dreambooth.run.sign import SignConfig
from dreambooth.schema import Flag, Setting, flags
from dreambooth.setup.config import TrainConfig
from dreambooth.study import StudyMake, StudyTable

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"

HEAD = """# Settings

Written by `python -m tools.settings_table` from the tree of settings itself. A flag `--rank` is `rank=` in Python and stands in YAML at
the place in the second column. A value that is left out comes from the recipe of the base model and the method, else it is the default.

In YAML a value is read as behind its flag: `no`, `1e-4` and `007` are what they are there, one word is a list of it, and `~`, a name
without a value and a branch whose lines are all commented out are left out. A name that stands twice is refused.
"""

SECTIONS: dict[str, type[Setting]] = {
    "train": TrainConfig, "generate": GenerateConfig,
    "evaluate": EvaluateConfig, "export": ExportConfig, "sign": SignConfig,
    "batch": BatchConfig, "batch remove": RemovalConfig, "bench": BenchConfig,
    "study make": StudyMake, "study table": StudyTable,
    "photos check": PhotosCheck, "photos prepare": PhotosPrepare, "photos caption": PhotosCaption, "models": ListModels,
    "encoders get": EncodersGet, "doctor": Doctor,
    "identifier": IdentifierSearch, "ui": Ui, "demo": DemoConfig, "runs list": RunsList, "runs show": RunsShow, "runs compare": RunsCompare,
    "runs remove": RunsRemove, "runs tell": RunsTell, "cache list": CacheList, "cache prune": CachePrune,
}  # fmt: skip
"""The commands of the page in their order, each with its settings."""


def page() -> str:
    """The whole page."""
    parts = [HEAD, _table("dreambooth train", TrainConfig), _aliases()]
    parts += [_table(f"dreambooth {command}", tree) for command, tree in SECTIONS.items() if tree is not TrainConfig]
    return "\n".join(parts)


def _table(title: str, tree: type[Setting]) -> str:
    lines = [f"## {title}\n"]
    group = None
    for flag in flags(tree).values():
        if flag.group != group:
            group = flag.group
            lines += [f"\n### {group or 'General'}\n", "| flag | in YAML | type | default | what it does |", "|---|---|---|---|---|"]
        lines.append(_row(flag))
    return "\n".join(lines) + "\n"


def _row(flag: Flag) -> str:
    default = "" if flag.default in (None, (), "") else f"`{flag.default}`"
    only = f" ({' and '.join(flag.kinds)} only)" if flag.kinds else ""
    text = flag.sentences.replace("|", "\\|")
    return f"| `--{flag.name}` | `{'.'.join(flag.path)}` | {flag.type_name.replace('|', ' or ')} | {default} | {text}{only} |"


def _aliases() -> str:
    lines = ["### Flags of other tools\n", "| flag | here |", "|---|---|"]
    for name, alias in ALIASES.items():
        target = (alias.flag,) if isinstance(alias.flag, str) else alias.flag or ()
        value = "" if alias.value is None or alias.value is True else f" {alias.value}"
        notice = " and ".join(f"`--{flag}{value}`" for flag in target) or alias.notice or f"refused: {alias.refused}"
        lines.append(f"| `--{name}` | {notice} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        fresh = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page()
        print("docs/settings.md is fresh" if fresh else "docs/settings.md differs; run `python -m tools.settings_table`")
        sys.exit(0 if fresh else 1)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
