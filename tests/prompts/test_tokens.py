"""Rare tokens are read from a model's own vocabulary, whatever kind it is, and what means something is not proposed."""

import os
import string
from pathlib import Path

import pytest

from dreambooth.core.errors import SettingError
from dreambooth.prompts.tokens import candidates, inspect, meanings, pick, split
from tests import tiny

SHARED = Path(os.environ.get("DREAMBOOTH_SHARED", Path(__file__).parents[2].parent / "shared"))


@pytest.fixture(scope="module")
def clip():
    """The real vocabulary of CLIP."""
    folder = SHARED / "clip_tokenizer"
    if not folder.is_dir():
        pytest.skip(f"no CLIP vocabulary in {folder}; set DREAMBOOTH_SHARED to the folder that holds clip_tokenizer/")
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)


def short_words(count: int) -> list[str]:
    """Three letters each, made up in a fixed order."""
    consonants = "bcdfghjklmnpqrstvwxz"
    words = [a + b + c for a in consonants for b in consonants for c in consonants]
    return words[3 : 3 + 7 * count : 7]


@pytest.fixture(scope="module")
def t5():
    """A T5-style vocabulary of 6,000 pieces, the frequent ones first."""
    from transformers import T5Tokenizer

    words = ["▁a", "▁dog", "▁sks", "▁kg", *("▁" + w for w in short_words(700)), *string.ascii_lowercase]
    fill = [f"▁{a}{b}{c}{d}" for a in "bcdfgh" for b in "aeiou" for c in string.ascii_lowercase for d in "aeiouns"][: 6000 - len(words) - 4]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(w, -3.0 - 0.001 * n) for n, w in enumerate([*fill, *words])]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=64)


@pytest.fixture(scope="module")
def byte_level():
    """A byte-level vocabulary as Qwen's: a blank before a word is part of its token."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    letters = sorted(ByteLevel.alphabet())
    words = ["dog", *short_words(40)]
    merges: list[tuple[str, str]] = []
    vocabulary = list(letters)
    for word in words:
        left = "Ġ"
        for letter in word:
            if (left, letter) not in merges:
                merges.append((left, letter))
            left += letter
            if left not in vocabulary:
                vocabulary.append(left)
    vocabulary.append("<|endoftext|>")
    return Qwen2Tokenizer(vocab={token: n for n, token in enumerate(vocabulary)}, merges=merges)


def test_sks_is_one_token_of_clip_and_the_papers_random_letters_are_seven(clip):
    assert split("sks", clip).ids == (48136,)
    assert len(split("xxy5syt00", clip).ids) == 7


def test_candidates_are_whole_rare_short_meaningless_and_come_back_as_they_were(clip):
    found = candidates(clip, num=300)
    assert len(found) == 300
    for one in found:
        assert one.whole and one.rank >= 0.5 and 2 <= len(one.identifier) <= 3 and not meanings(one.identifier)
        assert clip(one.identifier, add_special_tokens=False)["input_ids"] == list(one.splits[0].ids)
        assert clip.decode(one.splits[0].ids).strip() == one.identifier
    assert [c.score for c in found] == sorted((c.score for c in found), reverse=True)


def test_known_meanings_are_not_proposed(clip):
    proposed = {c.identifier for c in candidates(clip)}
    assert not proposed & {"sks", "kg", "jpg", "bmw", "ssh", "tux", "fck", "jap", "eng", "nyc", "mon", "dog", "xii", "usd", "cat"}
    assert "weapon" in meanings("sks") and "file type" in meanings("JPG") and not meanings("ohwx")


def test_a_seed_always_picks_the_same_word_and_seeds_pick_different_ones(clip):
    assert pick(clip, seed=3) == pick([clip], seed=3) == pick({"tokenizer": clip}, seed=3)
    assert len({pick(clip, seed=seed) for seed in range(12)}) > 6


def test_an_identifier_of_several_tokens_is_as_many_rare_words_and_nothing_speaks_against_it(clip):
    three = pick(clip, seed=1, words=3)
    assert [len(split(word, clip).ids) for word in three.split()] == [1, 1, 1] and len(set(three.split())) == 3
    assert len(split(three, clip).ids) == 3 and inspect(three, clip) is None
    with pytest.raises(SettingError, match="--identifier_tokens"):
        pick(clip, words=2, among=1)


def test_with_several_tokenizers_words_that_are_whole_in_all_come_first(clip, t5):
    both = candidates([clip, t5], num=20)
    whole = {c.identifier for c in candidates(t5)} & {c.identifier for c in candidates(clip)}
    assert both[0].whole and both[0].identifier in whole
    assert all(len(split.ids) <= 3 for c in both for split in c.splits)


def test_a_sentencepiece_vocabulary_gives_its_rare_words(t5):
    found = candidates(t5, num=30)
    assert all(c.whole and c.identifier in short_words(700) for c in found)
    assert not {"sks", "kg"} & {c.identifier for c in candidates(t5)}


def test_a_byte_level_vocabulary_is_asked_with_the_blank_before_the_word(byte_level):
    found = candidates(byte_level, num=10)
    assert all(c.whole and c.identifier in short_words(40) for c in found)


def test_a_vocabulary_of_a_few_hundred_words_gives_what_the_lists_let_through():
    from transformers import CLIPTokenizer

    base = tiny.clip_tokenizer()
    vocabulary = base.get_vocab()
    merges = [("d", "o"), ("do", "g</w>")]
    for word in ("zqx", "vbk", "kgw"):
        merges += [(word[0], word[1]), (word[:2], word[2] + "</w>")]
        for token in (word[:2], word + "</w>"):
            vocabulary.setdefault(token, len(vocabulary))
    small = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)
    assert {c.identifier for c in candidates(small)} >= {"zqx", "vbk", "kgw"}
    assert pick(small, seed=0) in {"zqx", "vbk", "kgw"}


def test_a_vocabulary_without_such_words_is_reported_with_a_way_out():
    with pytest.raises(SettingError, match="no short token") as raised:
        candidates(tiny.t5_tokenizer())
    assert "--identifier" in raised.value.fix


@pytest.mark.parametrize(
    ("word", "output"),
    [("sks", "weapon"), ("xxy5syt00", "7 pieces"), ("dog", "place 1,929 of 49,408"), ("my ball", "has 'my' at place"), ("ohwx", None)],
)
def test_a_chosen_identifier_is_warned_about_with_the_evidence(clip, word, output):
    warning = inspect(word, clip)
    assert (warning is None) if output is None else (output in warning and "Rare and meaningless here" in warning)


def test_what_a_tokenizer_does_not_know_at_all_is_reported():
    assert "does not know" in inspect("日本", tiny.t5_tokenizer())
