"""Add the settings that are new to dreambooth/bench/defaults.json; those that are there stay as they are, whatever the code says today."""

import json
from pathlib import Path

from dreambooth.bench import defaults

FILE = Path(defaults.__file__).parent / defaults.NAME


def main() -> None:
    """Write the file anew where something is missing."""
    kept = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    today = defaults.today()
    merged = {branch: {**values, **kept.get(branch, {})} for branch, values in {**kept, **today}.items()}
    FILE.write_text(json.dumps(merged, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
