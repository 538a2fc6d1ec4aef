"""Words for shells and people, held against a real shell."""

import os
import subprocess
from pathlib import Path

import pytest

from dreambooth.core.wording import shell_words, shown, size, written_out


@pytest.mark.parametrize(
    "word",
    [
        "plain", "", "my dog", "it's", 'a "dog"', "$HOME", "`id`", "a!b", "back\\slash", "강아지", "~",
        "\udce9t\udce9", "two\nlines", "\udcff'\\\n $x",
    ],
)  # fmt: skip
def test_a_shell_reads_back_the_words_that_were_quoted(word):
    output = subprocess.run(["bash", "-c", b"printf %s " + os.fsencode(shell_words(word))], capture_output=True, check=True)
    assert os.fsdecode(output.stdout) == word


def test_a_folder_that_begins_with_a_dash_is_no_flag_and_words_that_need_no_quotes_have_none():
    assert shell_words("dreambooth", "generate", Path("--run"), "a [V] dog") == 'dreambooth generate ./--run "a [V] dog"'


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"), (1, "1 byte"), (1023, "1,023 bytes"), (1024, "1 KiB"), (16_384, "16 KiB"), (1.5 * 2**20, "1.5 MiB"),
        (2**20 - 1, "1 MiB"), (94.2 * 2**20, "94 MiB"), (9.99 * 2**30, "10 GiB"), (3000 * 2**30, "3,000 GiB"),
    ],
)  # fmt: skip
def test_a_size_is_reported_in_the_unit_in_which_it_is_read_best(count, words):
    assert size(count) == words


def test_what_cannot_be_printed_is_written_out():
    assert shown("a\udce9\n\x1b😀é") == "a\\udce9\\n\\x1b😀é"
    assert written_out("a\udce9\n😀é") == "a\\udce9\n😀é"
