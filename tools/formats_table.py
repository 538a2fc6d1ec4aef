"""Write the table of docs/export.md (program x family x method) from the formats themselves and the measured differences; with --check,
fail when the page in the repository differs."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from dreambooth.families import FAMILIES, Family
from dreambooth.formats import FORMATS

ROOT = Path(__file__).parents[1]
PAGE, MEASURED = ROOT / "docs" / "export.md", ROOT / "benchmarks" / "formats" / "differences.json"
START, END = "<!-- written by python -m tools.formats_table -->", "<!-- end -->"
METHODS = ("full", "lora", "dora", "loha", "lokr", "oft", "textual_inversion")
PROGRAMS = ("ComfyUI", "A1111 and Forge", "kohya's tools", "InvokeAI", "diffusers")


def table() -> str:
    """Rows of families and methods, columns of programs; in a cell the formats that the program opens, with the largest difference."""
    lines = ["| family | `--method` | " + " | ".join(PROGRAMS) + " |", "|---|---|" + "---|" * len(PROGRAMS)]
    for family in FAMILIES:
        rows: dict[tuple[str, ...], list[str]] = {}
        for method in METHODS:
            cells = tuple(", ".join(_cell(family, method, program)) for program in PROGRAMS)
            rows.setdefault(cells, []).append(method.replace("dora", "lora --use_dora"))
        lines += [
            f"| {family.name} | {', '.join(f'`{method}`' for method in methods)} | {' | '.join(cells)} |"
            for cells, methods in rows.items() if any(cells)
        ]  # fmt: skip
    return "\n".join(lines)


def _cell(family: type[Family], method: str, program: str) -> Iterator[str]:
    measured = json.loads(MEASURED.read_text(encoding="utf-8")).get(family.name, {}).get(method, {})
    for name, format in FORMATS.items():
        if program in format.readers(family, method) and (name != "lora" or method == "full"):
            yield f"`{name}`" + (f" {measured[name]}" if format.is_exact and name in measured else "" if name in measured else " ?")


def page(text: str) -> str:
    """The page with a fresh table."""
    before, _, rest = text.partition(START)
    return f"{before}{START}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        fresh = text == page(text)
        print("docs/export.md is fresh" if fresh else "docs/export.md differs; run `python -m tools.formats_table`")
        sys.exit(0 if fresh else 1)
    PAGE.write_text(page(text), encoding="utf-8")
