"""What mkdocs is told about this repository's pages: a link to a file outside docs/ is a file's name on the site, where no such page is."""

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
OUTSIDE = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page with the names of files in the place of links that lead out of docs/."""
    return OUTSIDE.sub(lambda found: f"{found[1]} (`{found[2].removeprefix('../')}`)", markdown)


def broken_links(folder: Path = DOCS) -> list[str]:
    """Links of the pages to files that are not there, outside docs/ too: mkdocs itself looks at those inside."""
    found = []
    for page in sorted(folder.glob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists():
                found.append(f"{page.name}: {target}")
    return found
