"""Flags from a tree of settings: `--learning_rate` and `--learning-rate` are one flag, pydantic reads the values."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from dreambooth.cli.help import HELP, Page, help_text, help_topic
from dreambooth.core.errors import SettingError
from dreambooth.core.trees import at, place
from dreambooth.core.wording import alternatives
from dreambooth.schema import Flag, Setting, flags, nearest

AnySetting = TypeVar("AnySetting", bound=Setting)
SHORT = re.compile(r" (?:\[(?=[-\"])|\.\.\.|--(?!as))")
"""Where the part of a usage ends that a command cannot do without."""

ASKED = {"first": "two runs, or arms of a bench", "second": "run or arm beside it", "names": "encoders"}
"""What words without a flag are called when they are missing, where their own names do not say it."""


@dataclass(frozen=True)
class Alias:
    """Another name for a flag, from other tools. `value` is what it means when it stands alone; `notice` is said once when it is used."""

    flag: str | tuple[str, ...] | None
    value: Any = None
    notice: str = ""
    refused: str = ""


def subcommand(group: str, argv: Sequence[str], commands: Mapping[str, Callable[[Sequence[str]], int]], *, usage: str) -> int:
    """Hand over to the command of a group that the first word names, or print how they are used; raises SettingError for another word."""
    if not argv or argv[0] in HELP:
        print(usage)
        return 0
    if argv[0] not in commands:
        *most, last = commands
        raise SettingError(f"{group} {argv[0]}", f"there is no such command; there are {', '.join(most)} and {last}.")
    return commands[argv[0]](argv[1:])


def read_flags(
    argv: Sequence[str], tree: type[Setting], *, aliases: Mapping[str, Alias] | None = None, extra: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Nested settings, the values of `extra` flags that are no settings, and remarks; raises SettingError naming the flag."""
    known, aliases = flags(tree), aliases or {}
    values: dict[str, Any] = {}
    others: dict[str, str] = {}
    remarks: list[str] = []
    free: list[str] = []
    words, switch = list(argv), ""
    while words:
        word = words.pop(0)
        if not word.startswith("--") or len(word) == 2:
            if switch and not tree.positional:
                raise SettingError(f"--{switch}", f"it is a switch and takes no {word!r}.", fix=f"Write --{switch} or --no-{switch}.")
            free.append(word)
            continue
        name, has_value, inline = word[2:].partition("=")
        name = name.replace("-", "_")
        given = [inline] if has_value else None
        if name in extra:
            others[name] = _one(name, given, words)
        elif name in aliases:
            remarks += _use_alias(name, aliases[name], known, given, words, values)
        else:
            flag, value = _value(name, known, aliases, given, words)
            switch = flag.name if flag.is_switch else ""
            if flag.is_list:  # given again, it gets longer
                value = [*at(values, flag.path, []), *value]
            place(values, flag.path, value)
    _positional(tree, known, free, values)
    return values, others, remarks


def named_method(argv: Sequence[str]) -> str | None:
    """The method that the flags name, which decides what other flags there are."""
    for word, following in pairwise([*argv, ""]):
        if word == "--method":
            return following
        if word.startswith("--method="):
            return word.partition("=")[2]
    return None


def _value(name: str, known: dict[str, Flag], aliases: Mapping[str, Alias], given: list[str] | None, words: list[str]) -> tuple[Flag, Any]:
    if name not in known and name.startswith("no_") and name[3:] in known and known[name[3:]].is_switch:
        return known[name[3:]], False
    if name not in known:
        raise SettingError(f"--{name}", "there is no such flag.", fix=_did_you_mean(name, [*known, *aliases]))
    flag = known[name]
    if flag.is_switch:
        return flag, given[0] if given else True
    if flag.is_list:
        return flag, flag.items(given or _many(words))
    if flag.alone and given is None and (not words or words[0].startswith("-")):
        return flag, flag.alone
    return flag, _one(name, given, words)


def _use_alias(
    name: str, alias: Alias, known: dict[str, Flag], given: list[str] | None, words: list[str], values: dict[str, Any]
) -> list[str]:
    if alias.refused:
        raise SettingError(f"--{name}", alias.refused)
    targets = (alias.flag,) if isinstance(alias.flag, str) else alias.flag or ()
    value = alias.value
    follows = bool(words) and (not words[0].startswith("-") or words[0][1:2].isdigit())
    if value is None or (follows and not isinstance(value, bool) and _is_number(words[0])):
        value = _one(name, given, words)
    elif given:
        value = given[0]
    for target in targets:
        place(values, known[target].path, value)
    return [f"--{name}: {alias.notice}"] if alias.notice else []


def _one(name: str, given: list[str] | None, words: list[str]) -> str:
    """The value of a flag; a word such as -1e-4 is one."""
    if given is not None:
        return given[0]
    if not words or (words[0].startswith("--") and len(words[0]) > 2):
        raise SettingError(f"--{name}", "a value is missing.", fix=f"--{name} VALUE")
    return words.pop(0)


def _many(words: list[str]) -> list[str]:
    taken = []
    while words and not words[0].startswith("--"):
        taken.append(words.pop(0))
    return taken


def _positional(tree: type[Setting], known: dict[str, Flag], free: list[str], values: dict[str, Any]) -> None:
    for name in tree.positional:
        flag = known[name]
        if free:
            place(values, flag.path, [*free, *at(values, flag.path, [])] if flag.is_list else free[0])
            free[:] = [] if flag.is_list else free[1:]
    if free:
        expected = " ".join(name.upper() for name in tree.positional)
        fix = f"Words without a flag are: {expected}." if expected else "All settings are flags (--name value)."
        raise SettingError(free[0], "it stands behind no flag.", fix=fix)


def _did_you_mean(name: str, names: list[str]) -> str:
    found = nearest(name, names)
    return found.replace("Did you mean ", "Did you mean --") if found else "See --help for all flags."


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def settings_from(
    argv: Sequence[str],
    tree: type[AnySetting],
    *,
    usage: str,
    intro: str = "",
    aliases: Mapping[str, Alias] | None = None,
    examples: Sequence[str] = (),
) -> AnySetting | None:
    """The settings that the words say; None when help was asked for and has been printed."""
    topic, aliases = help_topic(argv), aliases or {}
    if topic is not None:
        others = {name: flag for name, alias in aliases.items() if (flag := flags(tree).get(str(alias.flag)))}
        heads = {name if flag.is_switch else f"{name} {flag.type_name}": flag.summary for name, flag in others.items()}
        page = Page(usage, intro, examples, heads)
        print(help_text(tree, page, topic, hidden=[flag.name for flag in others.values()]))
        return None
    values = read_flags(argv, tree, aliases=aliases)[0]
    refuse_missing(tree, values, usage)
    return tree.parse(values)


def refuse_missing(tree: type[Setting], values: Mapping[str, Any], usage: str) -> None:
    """Raise SettingError where a word is missing that the command cannot do without: what it is, and how the command is written."""
    for name in tree.positional:
        info = tree.model_fields[name]
        if not at(values, (name,), None) and (info.is_required() or info.default == ""):
            choices = flags(tree)[name].choices
            asked = "Where to" if name.startswith("out") else f"Which {ASKED.get(name, name)}"
            what = alternatives(choices).capitalize() if choices else asked
            raise MissingWord(f"--{name}", f"{what}? {re.split(SHORT, usage)[0]}")


class MissingWord(SettingError):
    """A word that is missing. It has no flag that anybody would have typed, so its text is the question alone."""

    def __init__(self, setting: str, reason: str):
        super().__init__("", reason)
        self.setting = setting
