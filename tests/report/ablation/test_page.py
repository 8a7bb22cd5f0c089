"""The page of an ablation: verdicts on top, nothing loaded, names escaped; in a browser, on a phone and in the dark."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from distill.ablation.statistics import summarise
from distill.files import LOCK_NAME
from distill.report import Facts, save_record
from distill.report.ablation.page import write_ablation_page, write_ablation_report
from distill.report.ablation.record import save_ablation
from tests.ablation.records import HOSTILE, swept, typical
from tests.e2e.helpers import Command, command
from tests.report.checks import make_record
from tests.report.evaluation.test_browser import CONTRASTS
from tests.report.evaluation.test_page import Reader, read, words

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.xdist_group("browser")
FACTS: Facts = {"Configuration": "name: " + HOSTILE, "Versions": {"torch": "2.14.1"}}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = typical()
    folder = tmp_path_factory.mktemp("ablation")
    return write_ablation_page(folder / "report.html", record=made, summary=summarise(made), title=HOSTILE, facts=FACTS)


@pytest.fixture(scope="module")
def page(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.fixture
def distill(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capfd)


def test_verdicts_stand_on_top(page: str) -> None:
    text = words(page)
    assert "Exploratory: not every row has 8 seeds to compare (the fewest is 7)" in text
    assert "CE + KD baseline 8 70.00% ± 0.69" in text
    assert "CE 8 66.02% ± 0.73 worse 0.4660 ± 0.0007 worse not measured" in text
    assert "CE + KD + maps 8 72.02% ± 0.73 better" in text
    assert f"{HOSTILE} 7 70.05% ± 0.87 inside the noise" in text
    assert text.index("72.02%") < text.index("Large markers are means") < text.index("All trials")
    assert "better: CE + KD + maps by +2.02 points" in text


def test_every_trial_and_every_reason_is_there(page: str) -> None:
    text, made = words(page), typical()
    assert f"1 failed {HOSTILE}, seed 3 NaN in cross_entropy at step 3" in text
    assert "31 done" in text
    for trial in made["trials"]:
        assert (trial["identity"] in text) is (trial["state"] == "done")


def test_facts_stand_in_the_footer(page: str) -> None:
    text = words(page)
    for fact in ("Baseline CE + KD", "Seeds 0, 1, 2, 3, 4, 5, 6, 7", "2.14.1", "Configuration"):
        assert fact in text


def test_drawings_are_told_in_words(page: str) -> None:
    labels = [svg.get("aria-label") or "" for svg in read(page).all("svg") if svg.get("role") == "img"]
    assert labels[0].startswith("Accuracy by row, unbiased. Means: CE + KD 70.00%, CE 66.02%")
    assert labels[2] == "Accuracy against map cosine, unbiased: a dot for each of 31 trials."


def test_names_are_escaped_and_nothing_is_loaded(page: str) -> None:
    reader: Reader = read(page)
    assert HOSTILE not in page
    assert page.count("<script") == 1
    assert not re.search(r"<[^>]+\son\w+=", page)
    assert not re.search(r"https?:|@import", page)
    sources = [value for _, attrs in reader.elements for name, value in attrs.items() if name in ("src", "href")]
    assert sources == ["data:,"]
    assert not any("style" in attributes for _, attributes in reader.elements)


def test_the_policy_allows_this_style_and_this_script(page: str) -> None:
    (policy,) = [meta["content"] or "" for meta in read(page).all("meta") if "http-equiv" in meta]
    for tag in ("style", "script"):
        found = re.search(rf"<{tag}>(.*)</{tag}>", page, re.DOTALL)
        assert found is not None
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_all_files_are_made_again_from_the_record(distill: Command, tmp_path: Path) -> None:
    made = swept()
    save_ablation(made, tmp_path / "ablation.json")
    write_ablation_report(tmp_path, record=made, summary=summarise(made), facts=FACTS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {"summary.json", "table.md", "table.csv", "report.html", "rows-test-accuracy.png"} <= before.keys()
    for name in before.keys() - {"ablation.json", "facts.json"}:
        (tmp_path / name).unlink()
    said = distill("report", tmp_path)
    assert said.code == 0, said.err
    assert f"report: {tmp_path / 'report.html'}" in said.message.replace(" /", "/").replace("report:/", "report: /")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != LOCK_NAME} == before


def test_an_evaluation_is_shown_again_with_its_curves(distill: Command, tmp_path: Path) -> None:
    made = make_record()
    run = tmp_path / "kd"
    run.mkdir()
    (run / "config.yaml").write_text("name: kd\n")
    (run / "metrics.csv").write_text("epoch,validation/accuracy\n0,0.5\n1,0.8125\n")
    made["networks"]["KD"]["run"], made["networks"]["CE"]["run"] = str(run), str(tmp_path / "moved")
    save_record(made, tmp_path / "evaluation.json")
    said = distill("report", tmp_path)
    assert said.code == 0, said.err
    assert "Run `distill evaluate` for a report with pictures." in said.message
    page = read((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "name: kd" in " ".join(page.text)
    labels = [svg.get("aria-label") or "" for svg in page.all("svg")]
    assert "Validation: accuracy by epoch. Last values: KD 0.8125" in labels


def test_a_folder_without_figures_is_refused(distill: Command, tmp_path: Path) -> None:
    said = distill("report", tmp_path)
    assert said.code == 2
    assert "contains neither evaluation.json nor ablation.json" in said.message


@pytest.fixture
def shown(browser: Browser, path: Path) -> Iterator[Page]:
    """The page, which must neither say anything on the console nor ask for anything but itself."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: said.extend([request.url] * (not request.url.startswith(("file:", "data:")))))
    opened.goto(path.as_uri())
    yield opened
    opened.close()
    assert said == []


def column(page: Page, place: int) -> list[str]:
    return page.eval_on_selector_all(
        f"#sortable tbody tr > :nth-child({place})", "all => all.map(one => one.textContent)"
    )


def test_trials_are_sorted_by_any_column(shown: Page) -> None:
    first = column(shown, 3)
    shown.focus("#sortable thead th:nth-child(3) button")
    shown.keyboard.press("Enter")
    assert column(shown, 3) == sorted(first)
    assert shown.get_attribute("#sortable thead th:nth-child(3)", "aria-sort") == "ascending"
    shown.keyboard.press("Enter")
    assert column(shown, 3) == sorted(first, reverse=True) != first
    shown.click("#sortable thead th:nth-child(2) button")
    assert column(shown, 2) == sorted(column(shown, 2))
    assert shown.get_attribute("#sortable thead th:nth-child(3)", "aria-sort") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_can_be_read(browser: Browser, path: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert [one for one in contrasts if one["ratio"] < 4.5] == []
    page.close()


def test_without_a_script_every_trial_is_there(browser: Browser, path: Path) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(path.as_uri())
    assert page.locator("#sortable tbody tr").count() == 31
    assert page.locator("#sortable button").count() == 0
    page.close()
