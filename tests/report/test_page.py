"""The page: it holds the figures, loads nothing, escapes what it is given, and stays small."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.report import Facts, save_grid, write_report
from distill.report.colours import data_uri
from tests.report.checks import HOSTILE, make_curves, make_gallery, make_record

FACTS: Facts = {
    "Configuration": "seed: 3\nname: " + HOSTILE,
    "Versions": {"torch": "2.14.1"},
    "Weights": {"KD": "9f86d081"},
}
VOID = {"meta", "link", "img", "input", "br"}


class Reader(HTMLParser):
    """Collects elements and text, and checks that what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def page(tmp_path: Path) -> str:
    path = write_report(
        tmp_path / "new" / "report.html",
        title="Does it <see>?",
        record=make_record(),
        curves=make_curves(),
        galleries=[make_gallery()],
        facts=FACTS,
    )
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def words(page: str) -> str:
    return re.sub(r"\s+", " ", " ".join(read(page).text))


def test_the_table_is_in_the_page(page: str) -> None:
    text = words(page)
    assert "Does it <see>?" in text
    assert "unbiased 400 images; the object covers 20.0% teacher reference 87.8% – – 61.3%" in text
    assert "CE 70.2% 69.8% 0.743 n = 397 41.2% best" in text
    assert "KD 82.2% best 84.8% best 0.931 best n = 397 38.8%" in text
    assert "teacher reference 90.0% – – not measured" in text
    assert "<strong>82.2%</strong>" in page


def test_every_figure_stands_with_its_n(page: str) -> None:
    assert "unbiased KD map cosine 0.9312 397 3" in words(page)


def test_maps_are_told_in_words(page: str) -> None:
    text, reader = words(page), read(page)
    assert "2 of 400 images, seed 7" in text
    assert "✓ right" in text
    assert "✗ wrong" in text
    assert "cosine 0.84" in text
    assert "empty map" in text
    assert f"{HOSTILE} 62%" in text
    assert all(image["alt"] for image in reader.all("img"))
    assert len(reader.all("img")) == 4
    drawn = [svg for svg in reader.all("svg") if svg.get("role") == "img" or svg.get("aria-hidden") == "true"]
    assert len(drawn) == len(reader.all("svg"))


def test_names_are_escaped(page: str) -> None:
    assert HOSTILE not in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"<[^>]+\son\w+=", page)


def test_nothing_is_loaded(page: str) -> None:
    reader = read(page)
    assert not re.search(r"https?:|//[a-z]", page)
    assert "@import" not in page
    sources = [value for _, attrs in reader.elements for name, value in attrs.items() if name in ("src", "href")]
    assert sources
    assert all(value is not None and value.startswith("data:") for value in sources)
    assert not reader.all("script")
    assert not any("style" in attributes for _, attributes in reader.elements)


def test_the_policy_allows_this_style_and_nothing_else(page: str) -> None:
    (policy,) = [meta["content"] for meta in read(page).all("meta") if "http-equiv" in meta]
    style = re.search(r"<style>(.*)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_facts_stand_in_the_footer(page: str) -> None:
    text = words(page)
    for fact in ("Configuration", "seed: 3", "2.14.1", "9f86d081", "77,395 parameters"):
        assert fact in text


def test_curves_are_described(page: str) -> None:
    labels = [svg.get("aria-label") or "" for svg in read(page).all("svg")]
    assert "Validation: accuracy by epoch. Last values: CE 0.7, KD 0.8" in labels
    assert "Training: loss by epoch. Last values: CE 1, KD 2" in labels


def test_a_page_of_curves_alone(tmp_path: Path) -> None:
    page = write_report(tmp_path / "report.html", title="One run", curves=make_curves()[:1]).read_text()
    assert 'id="verdict"' not in page
    assert 'id="maps"' not in page
    assert 'id="curves"' in page


def test_two_hundred_images_stay_under_fifteen_megabytes(tmp_path: Path) -> None:
    gallery = make_gallery(200, names=("teacher", "CE", "KD", "KD + Grad-CAM", "KD + Grad-CAM++"))
    path = write_report(tmp_path / "report.html", title="Many", record=make_record(), galleries=[gallery])
    assert path.stat().st_size < 15e6


def test_large_pictures_are_shrunk() -> None:
    uri = data_uri(np.zeros((400, 200, 3), np.uint8))
    image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    assert image.size == (80, 160)


def test_the_pixels_are_the_pictures() -> None:
    (picture,) = make_gallery(1).pictures
    encoded = data_uri(picture.pixels).removeprefix("data:image/png;base64,")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))), picture.pixels)


def test_the_grid_is_drawn(tmp_path: Path) -> None:
    few, many = (save_grid(make_gallery(n), tmp_path / f"{n}.png") for n in (1, 3))
    sizes = [Image.open(path).size for path in (few, many)]
    assert sizes[0][0] == sizes[1][0]
    assert sizes[1][1] - sizes[0][1] == pytest.approx(2 * (1.35 + 0.42) * 150, abs=2)
    assert np.asarray(Image.open(few).convert("L")).std() > 20
