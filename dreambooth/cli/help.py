"""`--help` in levels: what most people need, and by one more word a group of settings, a method, a single setting, or all of them."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import alternatives, nearest
from dreambooth.schema import Flag, Setting, flags

HELP = ("--help", "-h")
WIDTH = 100


@dataclass(frozen=True)
class Page:
    """What the help of a command says beside its settings."""

    usage: str
    intro: str = ""
    examples: Sequence[str] = ()
    others: Mapping[str, str] = field(default_factory=dict)
    """Flags that are no settings, each with a sentence: `{"config FILE": "..."}`."""
    from_recipes: frozenset[str] = frozenset()
    """Settings whose value the recipe of the base model may say."""

    @property
    def command(self) -> str:
        """`dreambooth train`, `dreambooth runs list`."""
        found = re.match(r"[a-z]+(?: [a-z]+)*(?= |$)", self.usage)
        return found[0] if found else self.usage


def help_topic(argv: Sequence[str]) -> str | None:
    """The word after `--help`, empty where there is none; None where no help is asked for."""
    for place, word in enumerate(argv):
        if word in HELP:
            following = argv[place + 1 : place + 2]
            return following[0] if following and not following[0].startswith("-") else ""
        if word.startswith("--help="):
            return word.partition("=")[2]
    return None


def help_text(tree: type[Setting], page: Page, topic: str = "", *, hidden: Sequence[str] = ()) -> str:
    """The help of a command on a topic: empty for what most people need, else `all`, a group, a method, or (a part of) a name.

    Raises SettingError for a topic that is none of these.
    """
    known = {name: flag for name, flag in flags(tree).items() if name not in hidden}
    chosen = _chosen(known, tree.positional, topic.removeprefix("--").replace("-", "_"))
    if topic and topic != "all":
        return "\n".join(_groups(list(chosen.values()), page))
    parts = [f"Usage: {page.usage}\n", *(textwrap.fill(p, WIDTH) + "\n" for p in (page.intro or tree.__doc__ or "").split("\n\n"))]
    if tree.positional:
        parts += ["Arguments\n", *(_entry(known[name], page, head=_argument(known[name])) for name in tree.positional)]
    named = [flag for name, flag in chosen.items() if name not in tree.positional]
    parts += _groups(named, page) if topic or len(chosen) == len(known) else ["Settings\n", *(_entry(flag, page) for flag in named)]
    parts += [_paragraph(f"  --{flag}", text) for flag, text in page.others.items()]
    parts += [_more(known, page), _examples(page)]
    return "\n".join(filter(None, parts))


def _chosen(known: Mapping[str, Flag], positional: Sequence[str], topic: str) -> dict[str, Flag]:
    """The settings that a topic is about."""
    basic = {name: flag for name, flag in known.items() if flag.level == "basic" or name in positional}
    if topic == "all" or (not topic and basic.keys() == set(positional)):
        return dict(known)
    if not topic:
        return basic
    found = {name: flag for name, flag in known.items() if topic in (flag.branch, name, *flag.kinds, *flag.members)}
    found = found or {name: flag for name, flag in known.items() if topic in name}
    if not found:
        topics = _topics(known)
        fix = nearest(topic, [*topics, *_kinds(known), *known]) or f"There are all, {', '.join(topics)}, and the names of settings."
        raise SettingError("--help", f"there is no group, method or setting {topic!r}.", fix=fix)
    return found


def _topics(known: Mapping[str, Flag]) -> list[str]:
    return list(dict.fromkeys(flag.branch for flag in known.values()))


def _kinds(known: Mapping[str, Flag]) -> list[str]:
    return [kind for flag in known.values() for kind in flag.members]


def _groups(chosen: Sequence[Flag], page: Page) -> list[str]:
    """Settings below the titles of their groups."""
    parts, group = [], None
    for flag in chosen:
        if flag.group != group or group is None:
            group = flag.group
            parts.append(f"{group or 'Settings'}\n")
        parts.append(_entry(flag, page))
    return parts


def _argument(flag: Flag) -> str:
    """How a setting that stands without its flag is named: `RUN`, `PROMPT ...`."""
    return f"  {flag.name.upper()}{' ...' if flag.is_list else ''}   (or --{flag.name})"


def _entry(flag: Flag, page: Page, *, head: str = "") -> str:
    value = f"[{flag.type_name}]" if flag.alone else flag.type_name
    head = head or f"  --{flag.name}" + ("" if flag.is_switch else f" {value}")
    notes = []
    if flag.kinds:
        notes.append(f"with --{flag.path[-2]} {alternatives(list(flag.kinds))}")
    if said := _default(flag, from_recipe=flag.name in page.from_recipes):
        notes.append(said)
    members = "".join(f"\n{' ' * 8}{kind:<{max(map(len, flag.members))}}  {title}" for kind, title in flag.members.items())
    return _paragraph(head, flag.summary + (f" [{'; '.join(notes)}]" if notes else "")).rstrip("\n") + members + "\n"


def _default(flag: Flag, *, from_recipe: bool) -> str:
    """What a setting is when it is not given."""
    if flag.is_switch and flag.default is True:
        return f"default: on; --no-{flag.name} turns it off"
    value = ", ".join(map(str, flag.default)) if isinstance(flag.default, tuple) else flag.default
    said = flag.automatic or (f"{value:g}" if isinstance(value, float) else "" if value is None or value is False else str(value))
    if from_recipe:
        return f"automatic: the base model's recipe{f', else {said}' if said else ''}"
    return f"{'automatic' if flag.automatic else 'default'}: {said}" if said else ""


def _paragraph(head: str, text: str) -> str:
    return f"{head}\n{textwrap.fill(text, WIDTH, initial_indent=' ' * 8, subsequent_indent=' ' * 8, break_on_hyphens=False)}\n"


def _more(known: Mapping[str, Flag], page: Page) -> str:
    """How the rest of the settings is found, where the help has levels."""
    if not any(flag.level == "basic" for flag in known.values()):
        return ""
    lines = {"all": f"all {len(known)} settings", "GROUP": ", ".join(_topics(known))}
    if kinds := _kinds(known):
        lines["KIND"] = ", ".join(kinds)
    lines["NAME"] = "one setting, or those with NAME in their names"
    command = f"  {page.command} --help"
    return "\n".join(["More", *(f"{command} {word:<5}  {text}" for word, text in lines.items()), ""])


def _examples(page: Page) -> str:
    return "\n".join(["Examples", *(f"  {line}" for line in page.examples)]) if page.examples else ""
