"""What a check found: one finding a line, with its reason and its fix; short for a person, complete for a machine."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from dreambooth.core.wording import counted
from dreambooth.files.console import text_table
from dreambooth.photos.files import shown

Severity = Literal["info", "warning", "error"]
ORDER: dict[str, int] = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Finding:
    """One thing that was found about one photo, or about the set where `file` is None."""

    file: str | None
    check: str
    severity: Severity
    value: float | int | str | None
    """What was measured, in the check's own unit."""
    reason: str
    """Why it matters."""
    fix: str
    """What to do about it."""


@dataclass(frozen=True)
class Place:
    """Where the subject is in a photo, and the photo's size in pixels."""

    size: tuple[int, int]
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class CheckReport:
    """All findings about a folder of photos, the gravest first."""

    folder: Path
    photos: tuple[Path, ...]
    findings: tuple[Finding, ...]
    places: dict[str, Place]
    """By file name: the subject's place, for the photos that could be read."""
    seconds: float
    mark: tuple[float, float, float, float] | None = None
    """Where a watermark is suspected, for the contact sheet."""

    @property
    def has_errors(self) -> bool:
        """Whether training should not begin."""
        return any(finding.severity == "error" for finding in self.findings)

    @property
    def has_warnings(self) -> bool:
        """Whether there is more than information."""
        return any(finding.severity != "info" for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """The command's: 0 without errors, 1 with."""
        return int(self.has_errors)

    def of(self, file: str | None) -> tuple[Finding, ...]:
        """The findings about one photo, or about the set (None)."""
        return tuple(finding for finding in self.findings if finding.file == file)

    def verdict(self) -> str:
        """One or a few short lines: what a training run prints before it starts."""
        counts = {s: sum(f.severity == s for f in self.findings) for s in ORDER}
        words = {"error": "must be fixed", "warning": "warning", "info": "note"}
        plural = {"error": "", "warning": "s", "info": "s"}
        summary = ", ".join(f"{n} {words[s]}{plural[s] * (n != 1)}" for s, n in counts.items() if n) or "no warnings"
        lines = [f"{shown(self.folder)}: {counted(len(self.places), 'picture')}, {summary}."]
        grave = [f for f in self.findings if f.severity != "info"]
        lines += [f"  {f.severity}: {shown(f.file) if f.file else 'all photos'}: {f.reason} {f.fix}" for f in grave[:6]]
        if len(grave) > 6:
            lines.append(f"  and {len(grave) - 6} more: dreambooth photos check {shown(self.folder)}")
        return "\n".join(lines)

    def table(self) -> str:
        """Every photo with its size and its findings, then the set, then what each kind of finding means and how to fix it."""
        rows: list[tuple[str, str, str]] = []
        found: dict[str, list[Finding]] = {path.name: [] for path in self.photos}
        for finding in self.findings:
            if finding.file:
                found.setdefault(finding.file, []).append(finding)
        for name, own in found.items():
            place = self.places.get(name)
            rows.append((_cut(shown(name), 32), f"{place.size[0]} x {place.size[1]}" if place else "-", _brief(own)))
        rows.append(("all photos", f"{len(self.places)} read", _brief(self.of(None))))
        grouped: dict[tuple[str, str | None], Finding] = {}
        for finding in self.findings:
            grouped.setdefault((finding.check, finding.file if finding.severity == "error" else finding.fix), finding)
        lines = [""] * bool(grouped) + [f"{f.severity:>7}  {_named(f)}: {f.reason} {f.fix}".rstrip() for f in grouped.values()]
        table = text_table(("photo", "size", "findings"), rows, right=("size",))
        return "\n".join([table, *lines, "", self.verdict().split("\n")[0]])

    def to_json(self) -> str:
        """A JSON list of the findings, each with file, check, severity, value, reason and fix."""
        return json.dumps([asdict(finding) for finding in self.findings], indent=2, ensure_ascii=True)


def sort_findings(findings: list[Finding]) -> tuple[Finding, ...]:
    """The gravest first, else in the order in which they were found."""
    return tuple(sorted(findings, key=lambda f: ORDER[f.severity]))


def _brief(findings: Sequence[Finding]) -> str:
    marks = {"error": "ERROR ", "warning": "! ", "info": ""}
    words = [f"{marks[f.severity]}{f.check}{_number(f.value)}" for f in findings]
    return ", ".join(words) if words else "ok"


def _named(finding: Finding) -> str:
    return f"{shown(finding.file)}, {finding.check}" if finding.severity == "error" and finding.file else finding.check


def _number(value: float | int | str | None) -> str:
    if isinstance(value, float):
        return f" {value:.2f}" if abs(value) < 10 else f" {value:.0f}"
    return f" {_cut(shown(str(value)), 28)}" if value not in (None, "") else ""


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
