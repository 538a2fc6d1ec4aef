"""The lowest versions that pyproject.toml allows, as pip's constraints."""

import pytest

from tools import lowest


def text_of(tmp_path, *needed: str, **extras: list[str]) -> list[str]:
    parts = "".join(f"{name} = {some}\n" for name, some in extras.items())
    (tmp_path / "pyproject.toml").write_text(f"[project]\ndependencies = {list(needed)}\n[project.optional-dependencies]\n{parts}")
    return lowest.constraints(tmp_path / "pyproject.toml").splitlines()[1:]


def test_a_bound_becomes_its_lowest_series_extras_among_them(tmp_path):
    assert text_of(tmp_path, "b>=0.42", "a>=7", extra=["c-d>=1.2.3"]) == ["a==7.*", "b==0.42.*", "c-d==1.2.3"]


@pytest.mark.parametrize("odd", ["a", "a<2", "a==1.0", "a>=1,<2"])
def test_a_dependency_without_a_lower_bound_is_refused_by_name(tmp_path, odd):
    with pytest.raises(ValueError, match=odd):
        text_of(tmp_path, odd)


def test_the_repositorys_file_is_fresh(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["lowest", "--check"])
    assert lowest.main() == 0
