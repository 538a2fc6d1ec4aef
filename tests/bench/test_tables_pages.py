"""LaTeX, the page and the figure: escaped, self-contained, with the right pictures in the right places."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dreambooth.bench.tables import UNTUNED, write_tables
from dreambooth.bench.tables.document import TOYBOX_NOTE
from dreambooth.bench.tables.latex import STACKED, escaped
from dreambooth.bench.tables.pictures import arms_with_pictures, galleries
from dreambooth.reporting.inline import file_uri
from tests.bench.made_up import OFF, ON, layout, row, rows, with_pictures
from tests.metrics.encoders import picture
from tests.reporting.test_report import Page

FAILURE = {"arm": ON, "subject": "fay", "seed": 1, "kind": "run", "reason": "<script>alert(1)</script> & 100% of C:\\tmp_x"}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A bench's folder, drawn once and only looked at."""
    folder = tmp_path_factory.mktemp("bench")
    write_tables(with_pictures(rows(seeds=2), folder), [FAILURE], layout(), folder)
    return folder


def test_the_page_is_whole_and_needs_nothing_else(out):
    page = Page((out / "bench.html").read_text())
    assert not page.open and all(link.startswith("data:image/") for link in page.links)
    assert page.text.count(TOYBOX_NOTE) == 1 and "alert(1)" in page.text and "<script" not in (out / "bench.html").read_text()
    assert "undecided" in page.text and "another model: its orderings can be compared" in page.text


def test_pictures_stand_side_by_side_at_equal_prompts_and_seeds(out):
    text = (out / "bench.html").read_text()
    first = text[text.index("<article") : text.index("</article>")]
    order = re.findall(r'<img src="([^"]+)" alt="([^"]+)"', first)
    wanted = [(arm, seed) for arm in (ON, OFF) for seed in range(2)]
    assert [alt for _, alt in order] == [f"{arm}, seed {seed}" for arm, seed in wanted]
    files = [out / f"pictures/{arm}-ann-0/0-{seed}.png".replace(" ", "-") for arm, seed in wanted]
    assert [uri for uri, _ in order] == [file_uri(path, 128) for path in files]


def test_the_photo_and_the_untuned_model_stand_beside_every_arm(tmp_path):
    made = with_pictures(rows(seeds=1), tmp_path)
    before = {prompt: names[:1] for prompt, names in made[0].pictures.items()}
    made = [replace(r, untuned_pictures=before, photo=made[0].pictures[f"a {r.noun}"][1]) if r.subject == "ann" else r for r in made]
    found = {gallery.subject: gallery for gallery in galleries(made, layout(), tmp_path)}
    assert {tuple(strip.arm for strip in one.strips) for one in found["ann"].prompts} == {(ON, OFF, UNTUNED)}
    assert found["ann"].photo and not found["bob"].photo, "rows of an earlier version have none"
    rendered = tmp_path / "shared" / "photos" / "bob" / "0.png"
    rendered.parent.mkdir(parents=True)
    picture(1).save(rendered)
    assert {g.subject: g.photo for g in galleries(made, layout(), tmp_path)}["bob"] == rendered
    write_tables(made, [], layout(), tmp_path)
    text = (tmp_path / "bench.html").read_text()
    assert text.count('alt="untuned, seed 0"') == 3 and text.count('alt="photo of ') == 2 and "loading=" not in text
    assert (tmp_path / "figure.png").is_file(), "the figure shows the arms"


def test_values_of_the_paper_that_do_not_compare_are_no_place_on_an_axis(tmp_path):
    same = {"encoders": {"dino": "facebook/dino-vits16 ", "clip": "openai/clip-vit-base-patch32 "}, "prompts": 25, "images_per_prompt": 4}
    comparable = [replace(r, protocol={**r.protocol, **same}) for r in rows(toybox=False)]
    for made, count in ((rows(), 0), (comparable, 5)):
        write_tables(made, [], layout(), tmp_path)
        text = (tmp_path / "bench.html").read_text()
        assert text.count('class="paper"') == count and ('class="diamond"' in text) == bool(count) and "0.712" in text


def test_on_a_phone_the_first_column_stays_while_the_others_move(browser, out):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto((out / "bench.html").as_uri())
    first, second = page.locator(".scroll tbody th").first, page.locator(".scroll tbody td").first
    places = [(first.bounding_box()["x"], second.bounding_box()["x"])]
    page.evaluate("document.querySelector('.scroll').scrollLeft = 60")
    places.append((first.bounding_box()["x"], second.bounding_box()["x"]))
    assert places[1] == (places[0][0], places[0][1] - 60)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_gallery_takes_the_training_seed_that_most_arms_have(tmp_path):
    made = [r for r in with_pictures(rows(seeds=2), tmp_path) if not (r.arm == OFF and r.seed == 0)]
    assert {gallery.seed for gallery in galleries(made, layout(), tmp_path)} == {1}
    alone = [r for r in made if r.arm == ON]
    assert not galleries(alone, layout(), tmp_path), "one arm of two shows no comparison"


def test_a_picture_that_is_gone_is_left_out(tmp_path):
    made = with_pictures(rows(seeds=1), tmp_path)
    (tmp_path / made[0].pictures["a [V] dog on the beach"][0]).unlink()
    write_tables(made, [], layout(), tmp_path)
    assert not Page((tmp_path / "bench.html").read_text()).open and (tmp_path / "figure.png").is_file()


def test_the_figure_holds_both_arms_in_their_columns(out):
    with Image.open(out / "figure.png") as image:
        half = image.width // 2
        left = Path(out / f"pictures/{ON}-ann-0/0-0.png".replace(" ", "-"))
        right = Path(out / f"pictures/{OFF}-ann-0/0-0.png".replace(" ", "-"))
        found = {name: _place(image, path) for name, path in (("left", left), ("right", right))}
        assert found["left"][1] == found["right"][1] and found["left"][0] < half < found["right"][0]


def test_without_pictures_there_is_a_page_and_no_stale_figure(tmp_path):
    (tmp_path / "figure.png").touch()
    paths = write_tables(rows(), [], layout(), tmp_path)
    assert [p.name for p in paths if p.suffix == ".png"] == [] and not (tmp_path / "figure.png").exists()
    assert "Side by side" not in (tmp_path / "bench.html").read_text()


def test_tables_below_the_benchs_folder_find_its_pictures(tmp_path):
    write_tables(with_pictures(rows(seeds=1), tmp_path), [], layout(), tmp_path / "tables" / "table3")
    assert (tmp_path / "tables" / "table3" / "figure.png").is_file()


@pytest.mark.parametrize("count", [6, 9])
def test_a_figure_shows_up_to_eight_arms_and_names_the_others(tmp_path, monkeypatch, count):
    drawn = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, place, words, *a, **k: drawn.append(words))
    arms = tuple(f"arm {n}" for n in range(count))
    made = with_pictures([row(arm, "ann", 0, dino=0.5, pres=0.5) for arm in arms[1:]], tmp_path)
    write_tables(made, [], layout(arms=arms, baseline=None, paper={}), tmp_path)
    assert arms_with_pictures(made, layout(arms=arms, baseline=None)) == arms[1:]
    assert [words for words in drawn if words in arms] == list(arms[1:9])
    assert ("not shown" in " ".join(drawn)) == (count > 9)


def test_a_figure_is_made_of_whole_pictures_where_the_bench_has_kept_them(tmp_path):
    (made,) = with_pictures([row(ON, "ann", 0, dino=0.5, pres=0.5)], tmp_path)
    small = ("jobs/k/pictures/00-seed0.jpg", "jobs/k/pictures/class-seed0.jpg")
    for name, whole in zip(small, ("own/00-seed0.png", "class/00-seed0.png"), strict=True):
        for path in (tmp_path / name, tmp_path / "jobs/k/samples" / whole):
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(1, (512, 512) if path.suffix == ".png" else (128, 128)).save(path)
    made = replace(made, pictures={"a [V] dog": [small[0]], "a dog": [small[1]]})
    write_tables([made], [], layout(arms=(ON,), baseline=None, paper={}), tmp_path)
    large = Image.open(tmp_path / "figure.png").height
    (tmp_path / "jobs/k/samples/class/00-seed0.png").unlink()
    write_tables([made], [], layout(arms=(ON,), baseline=None, paper={}), tmp_path)
    small = Image.open(tmp_path / "figure.png").height
    assert -40 < large - small - 2 * 128 <= 0, "two rows of tiles, and a footer that may need fewer lines"


def test_a_figure_of_one_arm_is_wide_enough_for_its_words(tmp_path):
    title = "A title that is much longer than two small pictures are wide, and longer than the prompt"
    write_tables(
        with_pictures([row(ON, "ann", 0, dino=0.5, pres=0.5)], tmp_path), [], layout(arms=(ON,), baseline=None, title=title), tmp_path
    )
    assert Image.open(tmp_path / "figure.png").width > 6 * len(title)


def test_latex_is_escaped_balanced_and_says_toybox(out):
    text = (out / "bench.tex").read_text().replace(STACKED, "")
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    assert TOYBOX_NOTE in " ".join(lines[1:5]) and TOYBOX_NOTE in lines[-1]
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == text.count("\\toprule") == text.count("\\bottomrule") > 0
    for line in lines:
        bare = re.sub(r"\\[\\&%$#_{}]", "", line.replace(">{\\raggedright", "{"))
        assert bare.count("{") == bare.count("}") and not re.search(r"[#_~^<>|±↑↓]", bare), line
    assert "\\textless{}script\\textgreater{}alert(1)" in text and "100\\% of C:\\textbackslash{}tmp\\_x" in text
    tables = re.findall(
        r"\\begin\{tabular\}\{((?:>\{\\raggedright\\arraybackslash\}p\{[\d.]+\\linewidth\}|r)+)\}(.*?)\\bottomrule", text, re.S
    )
    assert len(tables) == text.count("\\begin{tabular}")
    for kinds, body in tables:
        columns = {len(re.findall(r"(?<!\\)&", line)) + 1 for line in body.splitlines() if "&" in line}
        assert columns == {kinds.count("p{") + kinds.replace("\\raggedright\\arraybackslash", "").count("r")}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not here")
@pytest.mark.parametrize("subjects", [2, 8, 30])
def test_latex_makes_pages_and_nothing_is_too_wide(tmp_path, subjects):
    arms = ("with prior preservation", "without prior preservation")
    names = [f"subject {n}" for n in range(subjects)]
    metrics, rng = ("pres", "div", "dino", "clip_i", "clip_t"), np.random.default_rng(0)
    made = [
        replace(row(arm, name, seed, **dict(zip(metrics, rng.uniform(0.2, 0.9, 5), strict=True))), noun=f"noun {n}")
        for arm in arms for n, name in enumerate(names) for seed in range(3)
    ]  # fmt: skip
    write_tables(
        made,
        [FAILURE | {"reason": "The disk is full; what is finished stays. Free some space, and start again. " * 3}],
        layout(
            arms=arms,
            baseline=arms[1],
            metrics=metrics,
            paper={ON: dict.fromkeys(metrics, 0.5), "without prior preservation": dict.fromkeys(metrics, 0.6)},
        ),
        tmp_path,
    )
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{array,booktabs,longtable}\usepackage[T1]{fontenc}"
        r"\begin{document}\input{bench.tex}\end{document}"
    )
    output = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "paper.tex"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert output.returncode == 0, output.stdout[-2000:]
    assert (
        max([0.0, *map(float, re.findall(r"Overfull \\hbox \(([\d.]+)pt", output.stdout))]) < 5 and "Float too large" not in output.stdout
    )


def test_a_line_of_latex_never_begins_with_a_bracket():
    """`\\\\` followed by [V] would be read as a distance."""
    assert escaped("[V] dog, -0.5") == "{[}V{]} dog, $-$0.5"


def test_best_is_bold_in_every_format(out):
    for name, mark in (("bench.md", r"\*\*0\.4\d\d\*\*"), ("bench.tex", r"\\textbf\{0\.4\d\d\}"), ("bench.html", r'class="best">0\.4\d\d')):
        assert len(re.findall(mark, (out / name).read_text())) == 1, name


def _place(image: Image.Image, path: Path) -> tuple[int, int]:
    """Where a picture stands in the figure: the first tile corner whose mean colours fit."""
    with Image.open(path) as own:
        wanted = own.convert("RGB").resize((128, 128), Image.Resampling.LANCZOS)
    for y in range(image.height - 128):
        for x in range(0, image.width - 128, 2):
            if image.getpixel((x + 64, y + 64)) == wanted.getpixel((64, 64)) and image.crop((x, y, x + 128, y + 128)) == wanted:
                return x, y
    raise AssertionError(f"{path} is not in the figure")
