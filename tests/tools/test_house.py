"""What the package may grow to: the tool counts what it says it counts, on small packages whose numbers are known."""

from pathlib import Path

import pytest

from tools import house

LAYERS = '[[tool.importlinter.contracts]]\ntype = "forbidden"\n[[tool.importlinter.contracts]]\ntype = "layers"\nlayers = ["a", "b | c"]\n'


@pytest.fixture
def package(tmp_path):
    """A function that writes a package of the given files, and its pyproject.toml, and returns what is over its limit."""

    def over(layers: str = LAYERS, **files: str) -> list[str]:
        for name, text in {"__init__": "", **files}.items():
            path = tmp_path / "p" / f"{name.replace('__in__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "pyproject.toml").write_text(layers)
        return house.problems(tmp_path / "p", tmp_path / "pyproject.toml")[1]

    return over


def lines(count: int, start: int = 0) -> str:
    return "\n".join(f"    value_{number} = compute({number}) + 1" for number in range(start, start + count))


def test_this_package_is_within_all_limits():
    measures, over = house.problems(house.ROOT / "dreambooth", house.ROOT / "pyproject.toml")
    assert not over and len(measures) == 5


@pytest.mark.parametrize(("count", "found"), [(house.FUNCTION - 1, 0), (house.FUNCTION, 1)])
def test_a_function_may_have_sixty_lines_its_head_among_them_and_no_more(package, count, found):
    method = f"@decorated\nasync def long():\n{lines(count)}\n"
    assert len(package(a=method)) == found


@pytest.mark.parametrize(("count", "found"), [(house.FILE, 0), (house.FILE + 1, 1)])
def test_a_file_may_have_three_hundred_lines_comments_and_blanks_among_them(package, count, found):
    assert len(package(a="# a comment\n\n" * (count // 2) + "x = 1\n" * (count % 2))) == found


def test_modules_and_packages_count_at_the_top_and_folders_of_data_do_not(package, tmp_path):
    (tmp_path / "p" / "data").mkdir(parents=True)
    (tmp_path / "p" / "py.typed").touch()
    most = {f"m{number}": "" for number in range(house.MODULES - 2)}
    assert not package(**most, deep__in____init__="", deep__in__a="", deep__in__b="")
    assert "modules and packages at the top" in package(one_more="")[0]


def test_layers_are_those_of_the_contract_of_that_type(package):
    many = [f"m{number}" for number in range(house.LAYERS + 1)]
    assert package(LAYERS.replace('["a", "b | c"]', str(many))) == [f"{house.LAYERS + 1} layers in pyproject.toml"]


def test_a_run_of_equal_lines_in_two_places_is_repeated_also_at_another_indentation(package):
    same = lines(house.RUN)
    indented = "\n".join(f"    {line}" for line in same.splitlines())
    over = package(a=f"def one():\n{same}\n", b=f"class B:\n    def two(self):\n{indented}\n")
    assert len(over) == 2 and over[0].startswith("p/a.py: lines 2-7") and over[1].startswith("p/b.py: lines 3-8")


def test_what_is_shorter_or_says_nothing_is_not_repeated(package):
    imports = "\n".join(f"from package import name_{number}" for number in range(20))
    words = '"""\n' + "The same sentence in a docstring.\n" * 10 + '"""\n# The same comment.\n' + "\n" * 10
    short = lines(house.RUN - 1)
    assert not package(a=f"{words}{imports}\ndef one():\n{short}\n", b=f"{words}{imports}\ndef two():\n{short}\n")


def test_both_places_of_a_repetition_count_in_its_share():
    text = f"def one():\n{lines(10)}\n"
    same, count = house.repeated([house.Source("a.py", text), house.Source("b.py", text)])
    assert sum(map(len, same.values())) == count == 22


def test_the_check_ends_with_one_where_something_is_over_its_limit(monkeypatch, capsys):
    assert house.main() == 0
    monkeypatch.setattr(house, "FILE", 10)
    assert house.main() == 1 and "dreambooth/api.py" in capsys.readouterr().out


def test_lines_are_named_as_spans():
    assert house.spans({3, 4, 5, 40, 41}) == "3-5, 40-41"
    assert house.sources(Path(house.ROOT) / "dreambooth")[0].name == "dreambooth/__init__.py"
