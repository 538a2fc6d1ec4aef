"""The document as LaTeX with booktabs, to be \\input into a paper."""

import re
from collections.abc import Iterator, Sequence

from dreambooth.bench.tables.document import TOYBOX_NOTE, Document, Entry, Section

SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "[": "{[}", "]": "{]}", '"': r"\textquotedbl{}",
}  # fmt: skip
"""What stands for itself nowhere in LaTeX. A bracket is wrapped: after a line's end it would be read as a distance."""

WORDS = {"": 0.18, "class": 0.1, "metric": 0.1, "arm": 0.24, "the paper's ordering": 0.2, "subject": 0.14, "kind": 0.1, "reason": 0.36}
"""Headings of columns that hold words, and their widths in lines' lengths: long names wrap."""
STACKED = r"\providecommand{\stacked}[1]{\begin{tabular}[t]{@{}r@{}}#1\end{tabular}}"
SMALL = re.compile(r"\[.*?\]|± [\d.%]+|\w.*")
"""What stands below a number, each in a line of its own."""
ZERO = re.compile(r"\b0(?=\.\d)\.")
RAGGED = r">{\raggedright\arraybackslash}"
PAGE = 36
"""Lines that fit a page."""


def as_latex(document: Document) -> str:
    """A table for each section that has lines, comments for what stands below. Long tables need a page of one column."""
    banner = [f"\\noindent\\textbf{{{escaped(TOYBOX_NOTE)}}}"] if document.toybox else []
    parts = ["% \\usepackage{array,booktabs,longtable} \\usepackage[T1]{fontenc}", STACKED, *banner]
    for section in document.sections:
        if section.lines:
            caption = f"{document.title}: {section.title[:1].lower()}{section.title[1:]}." + (" Toybox." if document.toybox else "")
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
    """A float, or, where it would not fit a page, a table that goes on over pages."""
    columns = "".join(f"{RAGGED}p{{{WORDS[name]}\\linewidth}}" if name in WORDS else "r" for name in section.header)
    lines = [_line(entries, quiet=number in section.quiet) for number, entries in enumerate(section.lines)]
    named = f"\\caption{{{escaped(' '.join([caption, *section.sentences]))}}}"
    head = f"\\toprule\n    {' & '.join(map(escaped, section.header))} \\\\\n    \\midrule"
    body = "".join(f"    {line}\n" for line in lines)
    small = "\\footnotesize\\setlength{\\tabcolsep}{3pt}"
    if sum(map(_height, section.lines)) > PAGE:
        yield f"{{{small}\n  \\begin{{longtable}}{{{columns}}}\n    {named} \\\\\n    {head}\n    \\endfirsthead"
        yield f"    {head}\n    \\endhead\n    \\bottomrule\n    \\endfoot\n{body}  \\end{{longtable}}}}"
    else:
        yield f"\\begin{{table}}\n  \\centering{small}\n  {named}\n  \\begin{{tabular}}{{{columns}}}"
        yield f"    {head}\n{body}    \\bottomrule\n  \\end{{tabular}}\n\\end{{table}}"


def _height(entries: Sequence[Entry]) -> int:
    """Lines of a page that a line of the table takes, about."""
    return 1 + max(len(SMALL.findall(entry.more)) for entry in entries)


def _line(entries: Sequence[Entry], *, quiet: bool) -> str:
    return " & ".join(_entry(entry, quiet=quiet) for entry in entries) + " \\\\"


def _entry(entry: Entry, *, quiet: bool) -> str:
    """A cell; spread and interval stand below the number, so that a table of five metrics fits a page."""
    text = escaped(entry.text)
    text = f"\\textbf{{{text}}}" if entry.strong else f"\\textit{{{text}}}" if quiet and text else text
    below = [f"\\tiny {escaped(ZERO.sub('.', words))}" for words in SMALL.findall(entry.more)]
    cell = " \\\\ ".join([text, *below])
    return f"\\stacked{{{cell}}}" if below else text


def _one_line(text: str) -> str:
    return " ".join(text.split())
