"""The tokenizer: CLIP's, with a vocabulary learned from this world's words.

Every word of the world and of DreamBench's prompts is one token; so are the rare tokens, three consonants each, which
captions hardly use and which can therefore come to mean a subject. All 256 bytes are in the vocabulary: a character
outside of it would become CLIP's unknown token, which is the end-of-text token, and cut the prompt.
"""

import json
from itertools import product
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, T5Tokenizer

from ..world import ACCESSORIES, CLASSES, COLORS, CONTEXTS, LIGHTS, PATTERNS, STYLES, VIEWS
from ..world.captions import TRIM

LENGTH = 32
"""Tokens of a prompt, begin and end included."""
T5_LENGTH = 77
"""Tokens of a prompt of DeepFloyd IF."""
BENCH_WORDS = (
    "a an the and of in on top with background around it to for by over under photo picture image close up object toy "
    "animal stuffed pet wet shiny matte cube shaped rug forest dirt road white milk ocean eiffel tower mirror "
    "sidewalk crowded street santa hat black monocle chef firefighter police outfit yellow shirt purple wizard witch "
    "angel wings monster glasses sunglasses sneaker can cartoon bear car sloth poop emoji berry big small old new "
    "style painting sketch drawing art pixel oil pencil front side back view seen from above below red blue green "
    "house city mountain night day sunset sitting standing sleeping one two three "
)
"""Words of DreamBench's prompts and of common ones, known to the tokenizer though this world shows few of them."""


def rare_tokens() -> list[str]:
    """Sixty-four tokens of three consonants that spell no word."""
    rng = np.random.default_rng(0)
    every = ["".join(letters) for letters in product("bcdfghjklmnpqrstvwxz", repeat=3) if len(set(letters)) == 3]
    return ["sks", "zwx", "ohwx", *(str(word) for word in rng.choice([w for w in every if w != "zwx"], 61, replace=False))]


def world_words() -> list[str]:
    """Every word that captions and prompts use."""
    phrases = [*CLASSES, *COLORS, *PATTERNS, *TRIM.values(), *CONTEXTS.values(), *VIEWS.values(), *LIGHTS.values()]
    phrases += [*STYLES.values(), *ACCESSORIES.values(), BENCH_WORDS]
    return sorted({word for phrase in phrases for word in phrase.split()})


def build_tokenizer() -> CLIPTokenizer:
    """Learn the merges and make a CLIPTokenizer of them."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    words = [*world_words(), *rare_tokens()]
    trainer = trainers.BpeTrainer(vocab_size=8000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    learner.train_from_iterator(words * 2, trainer)
    learned = json.loads(learner.to_str())["model"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*alphabet, *(f"{letter}</w>" for letter in alphabet)])}
    for token in [*learned["vocab"], "<|startoftext|>", "<|endoftext|>"]:
        vocabulary.setdefault(token, len(vocabulary))
    merges = [tuple(pair) for pair in learned["merges"]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def build_t5_tokenizer() -> T5Tokenizer:
    """A T5 tokenizer in DeepFloyd IF's layout, 77 tokens of lower-case text: this world's words, rare tokens, and single characters."""
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -8.0), *((letter, -8.0) for letter in characters)]
    pieces += [(f"\u2581{word}", -4.0) for word in dict.fromkeys([*world_words(), *rare_tokens()])]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=T5_LENGTH)


def load_or_build(folder: Path) -> CLIPTokenizer:
    """The tokenizer in `folder`, made there if there is none."""
    if not (folder / "tokenizer.json").exists():
        build_tokenizer().save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)
