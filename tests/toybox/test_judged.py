"""Words that the judge must earn: the truth shows what it should, and a judge that errs on it scores no drawing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dreambooth.toybox import judged, verify
from dreambooth.toybox.judged import WORDS, examples, nouns_of, prompts, word_scores
from dreambooth.toybox.world import ANIMALS, STYLES


@pytest.mark.parametrize(("head", "word"), [(head, word) for head, words in WORDS.items() for word in words])
def test_the_truth_shows_the_word_and_the_prompt_asks_for_it(head: str, word: str) -> None:
    pairs, asked = examples(head, word, 14, seed=0), prompts(head, word, 14)
    assert all((subject.pattern if head == "pattern" else getattr(scene, head)) == word for subject, scene in pairs)
    assert {subject.noun for subject, _ in pairs} <= set(nouns_of(head, word))
    phrase = STYLES[word] if head == "style" else word
    assert all(phrase.split()[0] in text for text in asked)
    assert pairs == examples(head, word, 14, seed=0)


def test_only_animals_wear_things_and_a_bowl_has_no_side() -> None:
    assert nouns_of("accessory", "red hat") == ANIMALS
    assert "bowl" not in nouns_of("view", "side") and "bowl" in nouns_of("view", "above")


class Judge:
    """Knows sketches, and takes everything else for a photo."""

    judge = SimpleNamespace(
        config=SimpleNamespace(id2label=dict(enumerate(["style:photo", "style:sketch", "style:pixels", "style:painting"])))
    )

    def words(self, head: str) -> list[str]:
        return ["photo", "sketch", "pixels", "painting"]

    def named(self, pictures: np.ndarray) -> dict[str, torch.Tensor]:
        grey = torch.from_numpy(np.ptp(pictures.astype(float), axis=3).mean((1, 2)) < 12).float()
        return {"style": torch.stack([1 - grey, grey, 0 * grey, 0 * grey], 1)}

    def draw(self, texts: list[str], *, seed: int, guidance: float) -> np.ndarray:
        return np.full((len(texts), 128, 128, 3), 200, np.uint8)


def test_a_judge_that_misses_the_truth_scores_no_drawing(monkeypatch) -> None:
    scores = {score.word: score for score in word_scores(Judge(), guidance=1.5, seed=0, shown=4, asked=2)}  # type: ignore[arg-type]
    assert set(scores) == {"sketch", "pixels", "painting"}
    assert scores["sketch"].trusted and scores["sketch"].drawn == 1 and not scores["pixels"].trusted
    monkeypatch.setattr(verify, "word_scores", lambda weights, **asked: iter(scores.values()))
    names = [figure.name for figure in verify.words(Judge(), guidance=1.5, seed=0)]  # type: ignore[arg-type]
    assert "base: style sketch drawn" in names and "base: style pixels drawn" not in names
    assert "judge: style pixels, rendered truth" in names and "base: style words drawn, of 1 trusted" in names
    assert judged.TRUSTED == 0.97
