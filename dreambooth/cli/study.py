"""`dreambooth study make` and `dreambooth study table`."""

from collections.abc import Sequence

from dreambooth.bench.tables.statistics import MIN_TO_CLAIM
from dreambooth.cli.parse import settings_from, subcommand
from dreambooth.core.wording import counted, shell_words
from dreambooth.study import StudyMake, StudyTable, make, table
from dreambooth.study.table import MIN_PAIRS

HELP = """Usage: dreambooth study make A B OUT           blinded questionnaires from two runs, or two arms of a bench (BENCH:ARM)
       dreambooth study table OUT ANSWERS...  the table of preferences from the answers that came back

Each has its own --help. How a study is run: docs/study.md."""
MAKE = "dreambooth study make A B OUT [--comparisons 25] [--num_questionnaires N] [--trick_questions N] [--photos DIR]"
TABLE = "dreambooth study table OUT ANSWERS... [--min_raters 2] [--max_missed N]"


def main(argv: Sequence[str]) -> int:
    """Make questionnaires, or count answers."""
    return subcommand("study", argv, {"make": _make, "table": _table}, usage=HELP)


def _make(argv: Sequence[str]) -> int:
    settings = settings_from(argv, StudyMake, usage=MAKE)
    if settings:
        made = make(settings)
        count = len(made.questionnaires)
        tricks = f" and {counted(made.trick_questions, 'trick question')}" if made.trick_questions else ""
        print(f"{counted(made.pairs, 'pair')}{tricks} in {counted(count, 'questionnaire')}: {made.questionnaires[0].parent}")
        print(f"Raters: {_people(made.raters)} for each questionnaire, so {made.raters * count} answered ones in all.")
        print("One person may answer several, but none of them twice.")
        print("They open it in a browser, offline, and send back the file that it saves.")
        if made.pairs < MIN_PAIRS or 1 < made.subjects < MIN_TO_CLAIM:
            enough = f"{MIN_PAIRS} pairs of one subject, or {MIN_TO_CLAIM} subjects"
            print(f"However many answer, this study is too small to show a preference, which takes {enough}.")
        print(f"Keep for yourself: {made.key} (it tells which side is which).")
        least = StudyTable.model_fields["min_raters"].default
        few = [] if made.raters >= least else ["--min_raters", str(made.raters)]
        print(f"Then: {shell_words('dreambooth', 'study', 'table', made.key.parent)} ANSWERS... {' '.join(few)}".rstrip())
    return 0


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count} people"


def _table(argv: Sequence[str]) -> int:
    settings = settings_from(argv, StudyTable, usage=TABLE)
    if settings:
        from rich.console import Console

        from dreambooth.bench.tables.text import print_document

        tallied = table(settings)
        print_document(tallied.document, Console(highlight=False))
        print("\n".join(map(str, tallied.paths)))
    return 0
