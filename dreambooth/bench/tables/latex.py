"""The document as LaTeX with booktabs, to be \\input into a paper."""

import re
from collections.abc import Iterator

from dreambooth.bench.tables.document import TOYBOX, Document, Entry, Section

SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "[": "{[}", "]": "{]}", '"': r"\textquotedbl{}",
}  # fmt: skip
"""What stands for itself nowhere in LaTeX. A bracket is wrapped: after a line's end it would be read as a distance."""


def as_latex(document: Document) -> str:
    """One table environment for each section that has lines, comments for what stands below."""
    banner = [f"\\noindent\\textbf{{{escaped(TOYBOX)}}}"] if document.toybox else []
    parts = ["% \\usepackage{booktabs} \\usepackage[T1]{fontenc}", *banner]
    for section in document.sections:
        if section.lines:
            caption = f"{document.title}: {section.title.lower()}." + (" Toybox." if document.toybox else "")
            parts.append("\n".join(_table(section, caption)))
        else:
            parts.append("\n".join(f"% {section.title}: {_one_line(s)}" for s in section.sentences))
    parts.append("\n".join(f"% {name}: {_one_line(value)}" for name, value in document.facts))
    return "\n\n".join([*parts, *banner]) + "\n"


def escaped(text: str) -> str:
    """The text as LaTeX prints it; other signs beyond ASCII are left to its UTF-8."""
    words = re.sub("|".join(map(re.escape, SIGNS)), lambda found: SIGNS[found[0]], _one_line(text))
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", words)


def _table(section: Section, caption: str) -> Iterator[str]:
    words = sum(1 for name in section.header if name in ("", "class", "metric", "arm"))
    yield "\\begin{table}\n  \\centering\\small"
    yield f"  \\caption{{{escaped(' '.join([caption, *section.sentences]))}}}"
    yield f"  \\begin{{tabular}}{{{'l' * words}{'r' * (len(section.header) - words)}}}"
    yield "    \\toprule"
    yield f"    {' & '.join(map(escaped, section.header))} \\\\"
    yield "    \\midrule"
    for number, line in enumerate(section.lines):
        yield f"    {' & '.join(_entry(entry, quiet=number in section.quiet) for entry in line)} \\\\"
    yield "    \\bottomrule\n  \\end{tabular}\n\\end{table}"


def _entry(entry: Entry, *, quiet: bool) -> str:
    text = escaped(entry.text)
    text = f"\\textbf{{{text}}}" if entry.strong else f"\\textit{{{text}}}" if quiet and text else text
    return f"{text} {{\\scriptsize {escaped(entry.more)}}}" if entry.more else text


def _one_line(text: str) -> str:
    return " ".join(text.split())
