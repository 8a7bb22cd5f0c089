"""The page: it holds the figures, loads nothing, escapes what it is given, and stays small."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest

from distill.report import (
    Curves,
    EvaluationRecord,
    Facts,
    write_report,
)
from tests.report.checks import HOSTILE, make_curves, make_gallery, make_record, renamed

FACTS: Facts = {
    "Configuration": "seed: 3\nname: " + HOSTILE,
    "Versions": {"torch": "2.14.1", HOSTILE: "a\n" + HOSTILE},
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
        if not {"style", "script"} & set(self.open):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def write(path: Path, record: EvaluationRecord | None = None) -> str:
    written = write_report(
        path,
        title="Does it <see>?",
        record=record or make_record(),
        curves=make_curves(),
        galleries=[make_gallery()],
        facts=FACTS,
    )
    return written.read_text(encoding="utf-8")


@pytest.fixture
def page(tmp_path: Path) -> str:
    text = write(tmp_path / "new" / "report.html")
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["report.html"]
    return text


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def words(page: str) -> str:
    return re.sub(r"\s+", " ", " ".join(read(page).text))


def test_the_verdict_is_in_the_page(page: str) -> None:
    text = words(page)
    assert "Does it <see>?" in text
    assert "unbiased 400 images; the object covers 20.0% teacher reference 87.8% 83.7 to 91.8" in text
    assert "CE 70.2% 66.2 to 74.2 69.8% 65.8 to 73.8 0.743 0.733 to 0.753 n = 397 floor 0.44 41.2% 37.2 to 45.2" in text
    assert "KD 82.2% best 78.2 to 86.2 84.8% best 80.8 to 88.8 0.931 best 0.921 to 0.941 n = 397 floor 0.44" in text
    assert "Not measured: ADCC, Insertion." in text
    assert "not measured not measured" in text  # the set without objects
    assert "<strong>82.2%</strong>" in page


def test_all_figures_stand_by_group_with_what_was_left_out(page: str) -> None:
    text = words(page)
    assert "Are the maps similar to the reference's?" in text
    assert "Map cosine – 0.743 0.733 to 0.753 n = 397 3 left out 0.931 best" in text
    assert "Zero maps share of maps that are zero everywhere; lower is better" in text
    assert "Not measured: Output KL, Calibration error." in text


def test_comparisons_stand_with_their_noise(page: str) -> None:
    text = words(page)
    assert "unbiased: 3 of 5 differences are beyond the noise" in text
    assert "Accuracy KD − CE +12.0 points 8.0 to 16.0 < 0.001 +0.50 400 KD better" in text
    assert "In object CE − KD +2.5 points −1.0 to 6.0 0.400 +0.50 400 inside the noise" in text


def test_the_evidence_is_told_in_words(page: str) -> None:
    text = words(page)
    labels = [svg.get("aria-label") or "" for svg in read(page).all("svg")]
    assert "Share of images by cosine of the maps. Images with a cosine of at least 0.9: CE 50%, KD 50%" in labels
    assert "Deletion: mean probability (n = 256). At half of the pixels: teacher 0.45, CE 0.30, KD 0.40" in labels
    assert "KD 60.0% n = 240 cosine 0.800 15.0% n = 60 cosine 0.800 10.0% n = 40" in text
    assert "0.0% n = 0 cosine –" in text
    assert "KD input x gradient 0.800 0.760 to 0.840 n = 64 0.250 0.210 to 0.290 n = 64 0.400" in text


def test_maps_are_told_in_words(page: str) -> None:
    text, reader = words(page), read(page)
    assert "2 of 400 images, seed 7" in text
    assert "best, median and worst are by the cosine of KD’s map and the teacher’s" in text
    assert "✓ right" in text
    assert "✗ wrong" in text
    assert "empty map" in text
    assert "CE − teacher" in text
    assert f"{HOSTILE} 62%" in text
    assert all(image["alt"] for image in reader.all("img"))
    assert len(reader.all("img")) == 2 * (2 + 1)  # maps and a difference
    drawn = [svg for svg in reader.all("svg") if svg.get("role") == "img" or svg.get("aria-hidden") == "true"]
    assert len(drawn) == len(reader.all("svg"))


def test_a_picture_carries_what_it_is_filtered_by(page: str) -> None:
    first, second = read(page).all("article")
    panels = [picture.panels for picture in make_gallery().pictures]
    assert (first["data-label"], second["data-label"]) == ("0", "1")  # labels in alphabetical order
    assert (first["data-picks"], second["data-picks"]) == ("best", "median")
    assert json.loads(first["data-strata"] or "") == [None, "only_reference"]
    assert json.loads(first["data-scores"] or "") == [
        [panel.scores["map_cosine"], panel.scores["energy_in_object"]] for panel in panels[0]
    ]


def test_names_are_escaped_wherever_they_come_from(tmp_path: Path) -> None:
    record = make_record()
    for name in ("teacher", "KD", "plain", "grad_cam_pp", "raw map, relu", "input_x_gradient", "linear", "final"):
        record = renamed(record, name, HOSTILE + name)
    page = write_report(
        tmp_path / "report.html",
        title=HOSTILE,
        record=record,
        curves=[Curves(HOSTILE + "KD", {"train/" + HOSTILE: [(0, 1.0)]})],
        galleries=[make_gallery(names=("teacher", HOSTILE), set_name=HOSTILE)],
        facts={HOSTILE: FACTS["Versions"], **FACTS},
    ).read_text()
    assert HOSTILE not in page
    assert page.count("<script") == page.count("</script") == 1
    assert words(page).count(HOSTILE) > 40
    assert not re.search(r"<[^>]+\son\w+=", page)


def test_nothing_is_loaded(page: str) -> None:
    reader = read(page)
    assert not re.search(r"https?:|//[a-z]", re.sub(r"base64,[\w+/=]+", "", page))
    assert "@import" not in page
    sources = [value for _, attrs in reader.elements for name, value in attrs.items() if name in ("src", "href")]
    assert sources
    assert all(value is not None and value.startswith("data:") for value in sources)
    assert not any("style" in attributes for _, attributes in reader.elements)


def test_the_policy_allows_this_style_and_this_script_and_nothing_else(page: str) -> None:
    (policy,) = [meta["content"] for meta in read(page).all("meta") if "http-equiv" in meta]

    def digest(tag: str) -> str:
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        return b64encode(sha256(content.encode()).digest()).decode()

    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest('style')}'; "
        f"script-src 'sha256-{digest('script')}'; base-uri 'none'; form-action 'none'"
    )


def test_facts_stand_in_the_footer(page: str) -> None:
    text = words(page)
    for fact in (
        "Configuration",
        "seed: 3",
        "2.14.1",
        "9f86d081",
        "77,395 parameters",
        "runs/KD",
        "pixels to the mean",
    ):
        assert fact in text


def test_curves_are_described(page: str) -> None:
    labels = [svg.get("aria-label") or "" for svg in read(page).all("svg")]
    assert "Validation: accuracy by epoch. Last values: CE 0.7, KD 0.8" in labels
    assert "Training: loss by epoch. Last values: CE 1, KD 2" in labels


def test_a_network_has_one_style_on_the_whole_page(page: str) -> None:
    (learnt,) = re.findall(r'Training curves</h2>.*?<ul class="legend">(.*?)</ul>', page, re.DOTALL)
    assert re.findall(r'class="s(\d)"', learnt) == ["1", "2"]  # the teacher, without a log, has 0


def test_a_page_of_curves_alone(tmp_path: Path) -> None:
    page = write_report(tmp_path / "report.html", title="One run", curves=make_curves()[:1]).read_text()
    assert 'id="verdict"' not in page
    assert 'id="maps"' not in page
    assert 'id="evidence"' not in page
    assert "<script" not in page
    assert 'id="curves"' in page


def test_a_page_without_evidence_has_no_empty_sections(tmp_path: Path) -> None:
    record = make_record()
    del record["sets"]["unbiased"]
    page = write_report(tmp_path / "report.html", title="Little", record=record).read_text()
    assert 'id="verdict"' in page
    assert 'id="evidence"' not in page
    assert 'id="comparisons"' not in page


def test_without_a_reference_nothing_is_compared(tmp_path: Path) -> None:
    gallery = make_gallery(names=("CE", "KD"))
    page = write_report(tmp_path / "report.html", title="Two", galleries=[gallery]).read_text()
    assert 'name="compare"' not in page
    assert "Difference" not in page
    assert page.count('class="stack map"') == 4


@pytest.mark.slow
@pytest.mark.parametrize("side", [32, 224])
def test_two_hundred_images_stay_under_fifteen_megabytes(tmp_path: Path, side: int) -> None:
    gallery = make_gallery(200, side, names=("teacher", "CE", "KD", "KD + Grad-CAM", "KD + Grad-CAM++"))
    path = write_report(tmp_path / "report.html", title="Many", record=make_record(), galleries=[gallery])
    assert path.stat().st_size < 15e6
