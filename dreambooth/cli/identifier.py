"""`dreambooth identifier`."""

from collections.abc import Sequence

from dreambooth.cli.parse import Alias, settings_from
from dreambooth.identifier.search import IdentifierSearch, search
from dreambooth.setup.model import silence_libraries

USAGE = "dreambooth identifier MODEL [--class_noun dog] [--identifier YOURS] [--num 10] [--seed 0] [--sheet SHEET.png] [--json]"


def main(argv: Sequence[str]) -> int:
    """Rank words for a model, or judge one."""
    settings = settings_from(argv, IdentifierSearch, usage=USAGE, aliases={"json": Alias("as_json", True)})
    if settings:
        silence_libraries()
        report = search(settings)
        print(report.to_json() if settings.as_json else report.table())
        if settings.sheet and not settings.as_json:
            print(f"Pictures: {settings.sheet}")
    return 0
