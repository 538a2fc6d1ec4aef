"""The rule of acceptance: what it may say, what it means, and that it runs nothing."""

import pytest

from dreambooth.bench.batch.accept import NotMeasured, parse_rule
from dreambooth.core.errors import SettingError

VALUES = {"verdict": "fair", "fidelity": 0.6, "dino": 0.7, "clip_t": 0.2}


@pytest.mark.parametrize(
    ("rule", "is_accepted"),
    [
        ("verdict != overfitted and fidelity > 0.5", True),
        ("verdict != 'overfitted' and fidelity > 0.5", True),
        ("verdict in (good, 'fair')", True),
        ("verdict not in [good, fair]", False),
        ("not (dino < 0.8) or clip_t >= 0.2", True),
        ("0.5 < fidelity <= dino", True),
        ("fidelity > -1", True),
        ("fidelity > dino", False),
        ("good == verdict", False),
        ("  fidelity>+0.5  ", True),
    ],
)
def test_a_rule_is_read_as_it_is_written(rule, is_accepted):
    assert parse_rule(rule).accepts(VALUES) is is_accepted


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ("fidelty > 0.5", "fidelity"),
        ("verdict != overfited", "overfitted"),
        ("verdict == 'godo'", "good"),
        ("clip > 0.2", "clip"),
        ("Dino > 0.2", "dino"),
    ],
)
def test_an_unknown_score_or_verdict_is_named_with_the_nearest_one(rule, names):
    with pytest.raises(SettingError) as refused:
        parse_rule(rule)
    assert refused.value.setting == "--accept" and names in str(refused.value)


@pytest.mark.parametrize(
    "rule",
    [
        "", "fidelity", "fidelity >", "fidelity > 0.5 and", "0.5", "True", "fidelity > True", "fidelity = 0.5", "fidelity > 1 + 1",
        "dino * 2 > 1", "__import__('os').system('true')", "verdict.upper() == good", "verdict[0] == good", "(lambda: 1)() > 0",
        "[x for x in (1, 2)] == 1", "f'{dino}' == good", "fidelity > 1j", "dino if dino > 1 else clip_t", "(dino := 1) > 0",
        "verdict < good", "verdict > 0.5", "fidelity == good", "fidelity in (good, fair)", "verdict in good", "fidelity is 1",
        "verdict in ()", "verdict in (good, 1)", "verdict in ((good,), fair)", "dino > 0.5; dino", "dino > 0.5\nimport os",
        "dino > 9" + "9" * 5000,
        "(" * 500 + "dino > 1" + ")" * 500, "not " * 240 + "dino > 1 \0", "await dino > 1", "*dino > 1", "(yield) > 1", "dino > ...",
    ],
)  # fmt: skip
def test_whatever_is_no_comparison_of_scores_is_refused_in_a_sentence(rule):
    with pytest.raises(SettingError) as refused:
        parse_rule(rule)
    assert refused.value.setting == "--accept" and refused.value.exit_code == 2


def test_a_score_that_was_not_made_is_named_whatever_the_other_half_says():
    for rule in ("dino > 0 or div > 0.5", "dino < 0 and div > 0.5", "not div > 0"):
        with pytest.raises(NotMeasured, match=r"^div$"):
            parse_rule(rule).accepts(VALUES)
    assert parse_rule("dino > 0 or div > 0.5").names() == ("dino", "div")
