"""The page as a reader has it: in a browser, from disk, with a mouse, with keys alone, on a phone and in the dark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from distill.report import Gallery, write_report
from tests.report.checks import HOSTILE, make_curves, make_gallery, make_record, renamed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.xdist_group("browser")
NAMES = ("teacher", "CE", "KD")
LONG = "a_name_of_a_network_that_is_long_and_has_no_place_to_break_" * 2
Open = Callable[..., "Page"]
CONTRASTS = (Path(__file__).parent / "contrasts.js").read_text(encoding="utf-8")


def galleries() -> list[Gallery]:
    return [make_gallery(12, names=NAMES, noise=False), make_gallery(5, names=NAMES, set_name=HOSTILE, noise=False)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(
        tmp_path_factory.mktemp("page") / "report.html",
        title="Does it <see>?",
        record=renamed(make_record(), "plain", HOSTILE),
        curves=make_curves(),
        galleries=galleries(),
        facts={"Configuration": "seed: 3\n" + "x" * 300, "KD": {"torch": "2.14.1", "weights": "9f86d081" * 8}},
    )


@pytest.fixture
def visit(browser: Browser, path: Path) -> Iterator[Open]:
    """Open the page; it must neither say anything on the console nor ask for anything but itself."""
    contexts, said, asked = [], [], []

    def open_(width: int = 1280, address: Path = path, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []
    assert {url for url in asked if not url.startswith(("file:///", "data:"))} == set()


def shown(page: Page) -> list[tuple[str, int]]:
    """Give set and index of the pictures that can be seen, in their order."""
    return [
        (room, int(text.partition("image ")[2].split(";")[0]))
        for room, text in page.eval_on_selector_all(
            ".picture",
            "all => all.filter(one => one.checkVisibility())"
            ".map(one => [one.parentElement.dataset.set, one.querySelector('h4 span').textContent])",
        )
    ]


def expected(keep: Callable[[int, Any], bool]) -> list[tuple[str, int]]:
    return [
        (str(i), picture.index)
        for i, gallery in enumerate(galleries())
        for picture in gallery.pictures
        if keep(i, picture)
    ]


def count(page: Page) -> str:
    return page.inner_text("#shown")


def test_everything_is_shown_at_first(visit: Open) -> None:
    page = visit()
    assert shown(page) == expected(lambda *_: True)
    assert count(page) == "17 of 17 pictures"
    assert page.is_visible("select[name=label]")
    assert page.eval_on_selector_all("img", "all => all.every(one => one.complete && one.naturalWidth > 0)")


@pytest.mark.parametrize(
    ("name", "label", "keep"),
    [
        ("set", HOSTILE, lambda i, picture: i == 1),
        ("label", HOSTILE, lambda i, picture: picture.label == HOSTILE),
        ("pick", "worst", lambda i, picture: "worst" in picture.picks),
        ("stratum", "both right", lambda i, picture: picture.panels[2].stratum == "both_right"),
    ],
)
def test_filters(visit: Open, name: str, label: str, keep: Callable[[int, Any], bool]) -> None:
    page = visit()
    page.select_option(f"select[name={name}]", label=label)
    wanted = expected(keep)
    assert 0 < len(wanted) < 17
    assert shown(page) == wanted
    assert count(page) == f"{len(wanted)} of 17 pictures"
    page.click("button[type=reset]")
    page.get_by_text("17 of 17 pictures").wait_for()
    assert shown(page) == expected(lambda *_: True)


def test_filters_go_together_and_say_when_nothing_is_left(visit: Open) -> None:
    page = visit()
    page.select_option("select[name=label]", label="bag")
    page.select_option("select[name=pick]", label="best")
    assert shown(page) == expected(lambda i, picture: picture.label == "bag" and "best" in picture.picks)
    page.select_option("select[name=stratum]", label="both right")
    page.select_option("select[name=set]", label="unbiased")
    page.select_option("select[name=pick]", label="random")
    page.select_option("select[name=label]", label=HOSTILE)
    wanted = expected(
        lambda i, picture: (
            i == 0
            and picture.label == HOSTILE
            and "random" in picture.picks
            and picture.panels[2].stratum == "both_right"
        )
    )
    assert shown(page) == wanted == [("0", 34)]
    page.select_option("select[name=pick]", label="worst")
    assert shown(page) == []
    assert count(page) == "0 of 17 pictures: no picture matches all filters"
    assert not page.is_visible(".room h3")


def test_the_answers_are_those_of_the_network_that_is_compared(visit: Open) -> None:
    page = visit()
    page.check("#compare-1")
    page.select_option("select[name=stratum]", label="the same wrong answer")
    assert shown(page) == expected(lambda i, picture: picture.panels[1].stratum == "same_wrong")
    page.check("#compare-2")
    assert shown(page) == expected(lambda i, picture: picture.panels[2].stratum == "same_wrong")
    page.check("#compare-none")
    assert page.is_disabled("select[name=stratum]")
    assert count(page) == "17 of 17 pictures"


@pytest.mark.parametrize("highest", [False, True])
@pytest.mark.parametrize(
    ("network", "score", "title"), [(1, "map_cosine", "Map cosine"), (0, "energy_in_object", "In object")]
)
def test_sorting(visit: Open, network: int, score: str, title: str, highest: bool) -> None:
    page = visit()
    page.select_option("select[name=score]", label=title)
    page.select_option("select[name=of]", label=NAMES[network])
    page.select_option("select[name=order]", label="highest" if highest else "lowest")
    wanted = []
    for i, gallery in enumerate(galleries()):
        values = [(picture.panels[network].scores[score], picture.index) for picture in gallery.pictures]
        measured = sorted(
            ((v, n) for v, n in values if v is not None), key=lambda pair: -pair[0] if highest else pair[0]
        )
        wanted += [(str(i), n) for _, n in measured] + [(str(i), n) for v, n in values if v is None]
    assert shown(page) == wanted
    first = min(v for v in (p.panels[network].scores[score] for p in galleries()[0].pictures) if v is not None)
    if not highest:
        assert page.inner_text(".picture >> nth=0 >> .sorted") == f"{title} of {NAMES[network]}: {first:.3f}"
    page.select_option("select[name=score]", label="default order")
    assert shown(page) == expected(lambda *_: True)


def test_the_difference_of_the_chosen_network_is_shown(visit: Open) -> None:
    page = visit()

    def differences() -> set[str]:
        seen = "all => all.filter(one => one.checkVisibility()).map(one => one.innerText)"
        return set(page.eval_on_selector_all(".picture >> nth=0 >> .difference b", seen))

    assert differences() == {"KD − teacher"}
    page.check("#compare-1")
    assert differences() == {"CE − teacher"}
    page.check("#compare-none")
    assert differences() == set()


def test_the_slider_blends_the_maps(visit: Open) -> None:
    page = visit()

    def blended() -> tuple[str, str, str]:
        opacity, grey = page.evaluate(
            "[getComputedStyle(document.querySelector('.map img')).opacity,"
            " getComputedStyle(document.querySelector('.map .pixels')).filter]"
        )
        return opacity, grey, page.inner_text("output")

    assert blended() == ("0.6", "grayscale(1)", "60%")
    page.focus("#opacity")
    page.keyboard.press("ArrowRight")
    assert blended() == ("0.65", "grayscale(1)", "65%")
    page.keyboard.press("End")
    assert blended() == ("1", "grayscale(1)", "100%")
    page.keyboard.press("Home")
    assert blended() == ("0", "grayscale(0)", "0%")


def test_keys_alone_reach_and_change_everything(visit: Open) -> None:
    page = visit()
    names: list[str] = []
    while "BODY" not in names:  # once around
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.name || document.activeElement.tagName"))
        if names[-1] == "compare":
            page.keyboard.press("ArrowUp")
        if names[-1] == "label":
            page.keyboard.press("ArrowDown")
        if names[-1] == "SUMMARY":
            page.keyboard.press("Enter")
    wanted = ["compare", "set", "label", "pick", "stratum", "score", "opacity", "BUTTON"]
    assert [name for name in dict.fromkeys(names) if name in wanted] == wanted
    assert page.is_checked("#compare-1")
    assert shown(page) == expected(lambda i, picture: picture.label == HOSTILE)
    assert page.evaluate("Array.from(document.querySelectorAll('details'), one => one.open)") == [True] * 5


def test_what_is_focused_can_be_seen(visit: Open) -> None:
    page = visit()
    page.focus("select[name=label]")
    page.keyboard.press("Shift+Tab")
    width = "getComputedStyle(document.activeElement).outlineWidth"
    assert page.evaluate(width) == "2px"


def test_without_a_script_everything_is_there(visit: Open) -> None:
    page = visit(java_script_enabled=False)
    assert page.locator(".picture").count() == 17
    assert all(one.is_visible() for one in page.locator(".picture").all())
    assert not page.is_visible("#choices")
    assert page.is_visible(".d2 >> nth=0")
    page.check("#compare-1")
    assert page.is_visible(".d1 >> nth=0")
    assert not page.is_visible(".d2 >> nth=0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_can_be_read(visit: Open, tmp_path: Path, width: int, scheme: str) -> None:
    page = visit(width, color_scheme=scheme)
    page.screenshot(path=tmp_path / f"{width}-{scheme}.png", full_page=True)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    page.screenshot(path=tmp_path / f"{width}-{scheme}-open.png", full_page=True)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 200
    assert [one for one in contrasts if one["ratio"] < 4.5] == []


def test_long_names_do_not_push_the_page_aside(visit: Open, tmp_path: Path) -> None:
    record = renamed(renamed(make_record(), "KD", LONG), "unbiased", LONG + "set")
    gallery = make_gallery(2, names=("teacher", LONG), set_name=LONG, noise=False)
    long = write_report(
        tmp_path / "long.html", title=LONG, record=record, galleries=[gallery], facts={LONG: {LONG: LONG}}
    )
    page = visit(390, long)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390


def test_on_paper_all_is_open_and_light(visit: Open) -> None:
    page = visit(color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.is_visible(".tools")
    assert page.is_visible("#figures .numbers >> nth=0")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 29, 34)"


def test_the_policy_holds_off_what_is_not_of_the_page(browser: Browser, path: Path) -> None:
    page = browser.new_page()
    page.goto(path.as_uri())
    page.evaluate(
        "const made = document.createElement('script'); made.textContent = 'window.taken = 1';"
        "document.body.append(made); document.body.setAttribute('onclick', 'window.taken = 2'); document.body.click();"
    )
    assert page.evaluate("window.taken") is None
    page.close()


def test_names_from_data_run_nothing(visit: Open) -> None:
    page = visit()
    page.on("dialog", lambda dialog: pytest.fail(f"a name was run: {dialog.message}"))
    options = page.eval_on_selector_all("select[name=label] option", "all => all.map(one => one.textContent)")
    assert options == ["all", HOSTILE, "bag"]
    assert json.loads(page.get_attribute(".picture >> nth=0", "data-strata") or "")[1] == "only_reference"
