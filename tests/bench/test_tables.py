"""The tables say what the rows hold, mark what is proven, and never pass the toybox off as more."""

import csv
import io
import socket
from dataclasses import replace

import pytest
from rich.console import Console

from dreambooth.bench.tables import REAL_PAIRS, UNTUNED, print_tables, write_tables
from dreambooth.bench.tables.document import TOYBOX_NOTE, claim, number
from dreambooth.bench.tables.redact import public
from dreambooth.bench.tables.results import OTHER_MODEL, OTHER_SUITE, results
from dreambooth.core.errors import SettingError
from tests.bench.made_up import NOUNS, OFF, ON, PROTOCOL, layout, row, rows

FAILURE = {"arm": ON, "subject": "fay", "seed": 1, "kind": "run", "reason": "no | memory <b>"}


def line(found, name):
    return next(line for line in found.lines if line.name == name)


FIVE = tuple(NOUNS)[:5]


def markdown(made, folder, **changed) -> str:
    write_tables(made, [FAILURE], layout(**changed), folder)
    return (folder / "bench.md").read_text()


def console(made, width=130, **changed) -> str:
    out = io.StringIO()
    print_tables(made, [FAILURE], layout(**changed), Console(file=out, width=width))
    return out.getvalue()


def test_the_mean_over_subjects_stands_in_the_table(tmp_path):
    made = [row(ON, "ann", 0, dino=0.5), row(ON, "bob", 0, dino=0.7), row(OFF, "ann", 0, dino=0.2)]
    assert "| with prior preservation | 2 x 1 | 0.600 |" in markdown(made, tmp_path, metrics=("dino",))
    assert "| without | 1 x 1 | 0.200 |" in (tmp_path / "bench.md").read_text()


def test_only_a_proven_best_is_marked():
    found = results(rows(), layout())
    dino, pres = line(found, ON).cells
    assert pres.best and not dino.best and not any(cell.best for cell in line(found, OFF).cells)
    few = results(rows(subjects=FIVE), layout())
    assert not any(cell.best for line in few.lines for cell in line.cells), "five subjects prove nothing"


def test_of_three_arms_the_best_must_beat_both():
    made = rows() + [row("third", r.subject, r.seed, dino=0.6, pres=r.scores["pres"]["value"]) for r in rows() if r.arm == ON]
    found = results(made, layout(arms=(ON, OFF, "third")))
    assert not any(line.cells[1].best for line in found.lines)


def test_orderings_hold_are_reversed_or_stay_open():
    found = {(c.metric, c.first, c.second): c.verdict for c in results(rows(), layout()).orderings}
    assert found["pres", OFF, ON] == "holds"
    assert found["dino", OFF, ON] == "undecided"
    assert found["dino", REAL_PAIRS, ON] == "holds"
    turned = layout(paper={ON: {"pres": 0.7}, OFF: {"pres": 0.5}})
    assert [c.verdict for c in results(rows(), turned).orderings] == ["reversed"]
    few = results(rows(subjects=FIVE), layout())
    assert {c.verdict for c in few.orderings} == {"undecided"}, "five subjects decide nothing"


def test_values_that_two_lines_nearly_share_in_the_paper_are_no_ordering():
    for other in (0.7, 0.702):
        equal = layout(paper={ON: {"dino": 0.7}, OFF: {"dino": other}})
        assert not results(rows(), equal).orderings, "three decimals without a spread tell nothing this close"


def test_numbers_of_few_subjects_are_shown_and_nothing_is_claimed(tmp_path):
    text = markdown(rows(subjects=FIVE), tmp_path)
    assert "15 of 5" in text and "fewer than 6 subjects: nothing is claimed" in text and "4 undecided" in text


@pytest.mark.parametrize("show", [markdown, lambda made, folder: console(made, 220)], ids=["markdown", "console"])
def test_the_toybox_says_so_first_and_the_paper_is_not_comparable(show, tmp_path):
    output = [text for text in show(rows(), tmp_path).splitlines() if text.strip()]
    notes = [number for number, text in enumerate(output) if text.strip("*") == TOYBOX_NOTE]
    assert notes == ([0, len(output) - 1] if show is markdown else [0]), "a file is read from both ends, a terminal once"
    assert any(OTHER_MODEL in text for text in output)
    plain = show(rows(toybox=False), tmp_path)
    assert "toybox: a small" not in plain and OTHER_MODEL not in plain


def test_the_paper_is_comparable_with_its_own_encoders_and_suite_alone():
    assert results(rows(toybox=False), layout()).apart == OTHER_SUITE
    same = {"encoders": {"dino": "facebook/dino-vits16 ", "clip": "openai/clip-vit-base-patch32 "}, "prompts": 25, "images_per_prompt": 4}
    made = [type(r)(**{**r.plain(), "protocol": same}) for r in rows(toybox=False)]
    assert not results(made, layout()).apart


def test_real_photos_and_the_untuned_model_have_lines_of_their_own(tmp_path):
    text = markdown(rows(), tmp_path)
    assert "| real photos, with self-pairs | 6 subjects | 0.760" in text and "| untuned | 6 subjects | 0.400" in text
    assert "± " not in next(t for t in text.splitlines() if t.startswith("| untuned")), "nothing was trained, so no seed was drawn"
    own = [*rows(), *(row(UNTUNED, "ann", s, dino=0.3, pres=0.3) for s in range(3))]
    found = results(own, layout(arms=(UNTUNED, ON, OFF)))
    assert [line.name for line in found.lines].count(UNTUNED) == 1 and line(found, UNTUNED).cells[0].summary.mean == pytest.approx(0.3)


def test_a_missing_metric_is_a_dash_with_its_reason(tmp_path):
    made = [row(arm, s, 0, dino=0.5, pres=None) for arm in (ON, OFF) for s in ("ann", "bob")]
    text = markdown(made, tmp_path)
    assert "PRES, 4 jobs: there are no class images (--class\\_samples)." in text
    assert "| with prior preservation | 2 x 1 | 0.500 | - |" in text


def test_an_arm_without_any_row_keeps_its_line_and_the_papers_value(tmp_path):
    text = markdown([r for r in rows() if r.arm == ON], tmp_path)
    assert "| without | 0 | - | - |" in text and "*0.712*" in text and "no shared jobs" in text


def test_a_bench_in_which_everything_failed_still_has_its_table(tmp_path):
    text = markdown([], tmp_path)
    assert "1 job failed" in text and "0 finished, 1 failed" in text


def test_failures_are_listed_and_counted(tmp_path):
    text = markdown(rows(), tmp_path)
    assert "| with prior preservation | fay | 1 | run | no \\| memory \\<b\\> |" in text and "36 finished, 1 failed" in text


def test_a_terminal_gets_the_claim_and_the_main_table_alone(tmp_path):
    text = console(rows(), 220)
    assert "PRES" in text and "0.712" in text and "is better in PRES" in text
    assert not any(words in text for words in ("no | memory <b>", "Failures", "the paper's ordering", "By class", "Encoder", "Made up."))
    mixed = [type(r)(**{**r.plain(), "base": f"{n % 2}" * 16}) for n, r in enumerate(rows())]
    assert "Warning: the rows were not made alike" in console(mixed, 220), "what spoils the table stands below it"


def test_the_claim_on_top_says_what_the_tests_let_one_say():
    assert claim(results(rows(), layout())) == (
        f'Against "{OFF}", over 6 subjects: "{ON}" is better in PRES. Nothing else may be claimed, and the 2 tests are not corrected for '
        "their number."
    )
    assert claim(results(rows(subjects=FIVE), layout())) == (
        "With 5 subjects nothing may be claimed of the arms against each other; that takes 6."
    )
    same = [row(arm, subject, 0, dino=0.5, pres=0.4) for arm in (ON, OFF) for subject in NOUNS]
    assert claim(results(same, layout())) == f'Against "{OFF}", over 6 subjects, no difference may be claimed.'
    assert claim(results([r for r in rows() if r.arm == ON], layout())) == "", "one arm is compared with nothing"
    arms = tuple(f"arm {n}" for n in range(6))
    many = [row(arm, s, 0, dino=0.1 * n + 0.001 * k, pres=None) for n, arm in enumerate(arms) for k, s in enumerate(NOUNS)]
    text = claim(results(many, layout(arms=arms, baseline=arms[0], paper={})))
    assert '"arm 3" is better in DINO; 2 arms more below' in text and "arm 4" not in text


def test_no_table_names_a_machine(tmp_path):
    reason = f"OSError: /home/ann/my/bench/jobs/1 is full on {socket.gethostname()}, 10.0.0.7:6379; see s3://bucket/one/two and/or 1/2."
    failure = {"arm": ON, "subject": "ann", "seed": 0, "kind": "error", "reason": reason}
    paths = write_tables(rows(), [failure], layout(), tmp_path)
    for text in (path.read_text() for path in paths if path.suffix in (".html", ".md", ".tex")):
        assert "ann/my" not in text and "10.0.0.7" not in text and "OSError: …/1 is full" in text
        assert "s3://bucket/one/two and/or 1/2" in text
    assert public(socket.gethostname()) != socket.gethostname() or len(socket.gethostname()) <= 3


def test_the_lists_of_living_subjects_and_of_things_may_differ_in_length(tmp_path):
    def asked(prompts: int, *, live: bool):
        return [replace(r, live=live, subject=f"{r.subject} {live}", protocol={**r.protocol, "prompts": prompts}) for r in rows()]

    assert "Warning" not in markdown([*asked(20, live=True), *asked(17, live=False)], tmp_path)
    assert "Warning" in markdown([*asked(20, live=True)[1:], *asked(17, live=True)[:1]], tmp_path)


def test_classes_stand_apart(tmp_path):
    text = markdown(rows(), tmp_path)
    assert "| dog | with prior preservation | 2 x 3 |" in text and "| boot | without | 2 x 3 |" in text


def test_what_the_numbers_stand_on_is_reported(tmp_path):
    text = markdown(rows(), tmp_path)
    for output in (
        "DINO: toybox/dino",
        "Prompts: 8",
        "Pictures of the class: 16",
        "6 subjects: ann, bob",
        "Training seeds: 0, 1, 2",
        "0.6 h",
    ):
        assert output in text


def test_rows_that_were_not_made_alike_bring_a_warning(tmp_path):
    made = rows()
    made[0] = type(made[0])(**{**made[0].plain(), "protocol": {**PROTOCOL, "prompts": 25}})
    assert "Prompts: 25 (1 job), 8 (35 jobs)." in markdown(made, tmp_path)
    assert "Warning" not in markdown(rows(), tmp_path)


def test_the_csv_holds_every_number_of_the_table(tmp_path):
    write_tables(rows(), [], layout(), tmp_path)
    table = list(csv.DictReader((tmp_path / "bench.csv").open()))
    found = results(rows(), layout())
    for own in found.lines:
        for cell in own.cells:
            (one,) = [t for t in table if (t["scope"], t["arm"], t["metric"]) == ("all", own.name, cell.metric)]
            assert one["mean"] == ("" if cell.summary is None else f"{cell.summary.mean:.6g}") and one["best"] == str(int(cell.best))
    assert {t["scope"] for t in table} == {"all", "dog", "teapot", "boot"} and {t["toybox"] for t in table} == {"1"}
    tests = list(csv.DictReader((tmp_path / "bench-tests.csv").open()))
    assert {(t["kind"], t["verdict"]) for t in tests} >= {("baseline", "lower"), ("ordering", "holds"), ("ordering", "undecided")}


@pytest.mark.parametrize(
    ("made", "changed", "words"),
    [
        (rows(), {"metrics": ("dinno",)}, "Did you mean dino?"),
        (rows(), {"arms": (ON,), "baseline": ON}, "which the table does not list"),
        (rows(), {"baseline": "nobody"}, "has no arm"),
        (rows() + rows(), {}, "2 rows say"),
    ],
)
def test_rows_that_do_not_fit_are_refused(made, changed, words):
    with pytest.raises(SettingError, match=words):
        results(made, layout(**changed))


def test_numbers_in_words():
    assert [number("dino", v, signed=True) for v in (0.1234, -0.1, -0.0001, 0.0001, None)] == ["+0.123", "-0.100", "0.000", "0.000", "-"]
    assert number("copying", 0.125) == "12.5%" and number("dino", 0.5) == "0.500"


def test_every_subjects_own_numbers_are_in_a_file_of_their_own(tmp_path):
    made = rows()
    write_tables(made, [], layout(), tmp_path)
    found = list(csv.DictReader((tmp_path / "bench-subjects.csv").open()))
    assert len(found) == len(made) * len(layout().metrics)
    one = next(line for line in found if line["metric"] == "dino")
    row = next(row for row in made if (row.subject, row.arm, str(row.seed)) == (one["subject"], one["arm"], one["seed"]))
    assert float(one["value"]) == pytest.approx(row.scores["dino"]["value"], rel=1e-5)
    assert one["class"] == row.noun and one["toybox"] == str(int(row.toybox))
