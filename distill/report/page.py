"""A record, curves, galleries and facts -> one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from distill.report.all_figures import DIRECTIONS, group_figures
from distill.report.browsing import Browsing, browse
from distill.report.charts import STYLES, make_charts
from distill.report.colours import DIVERGING, scale_stops
from distill.report.curves import Curves
from distill.report.evidence import STRATA, gather
from distill.report.pictures import Gallery
from distill.report.reading import caveat, read_out
from distill.report.record import EvaluationRecord
from distill.report.table import columns, left_out, sections
from distill.report.templating import environment, policy_hash, write_page

#: What stands in the footer, by heading: names with values, or a text such as a configuration.
Facts: TypeAlias = Mapping[str, Mapping[str, object] | str]


def write_report(
    path: Path | str,
    *,
    title: str,
    record: EvaluationRecord | None = None,
    curves: Sequence[Curves] = (),
    galleries: Sequence[Gallery] = (),
    facts: Facts | None = None,
) -> Path:
    """Write the page of a run, or of several runs side by side; the file appears whole or not at all.

    Convention:
        - The page loads nothing: styles, script and pictures are in it, and its Content-Security-Policy forbids the
          rest. It shows everything without the script, which only filters, sorts and blends the pictures.
        - All text is escaped, names of classes and runs included.
        - What is not given has no section.

    Args:
        path: The file.
        title: Its heading.
        record: What was measured; the table on top.
        curves: Logs of the runs.
        galleries: Images with maps, one for each test set that is shown.
        facts: For the footer: configuration, seeds, versions, hashes.

    Returns:
        The path.
    """
    return write_page(path, render(title=title, record=record, curves=curves, galleries=galleries, facts=facts or {}))


def render(
    *,
    title: str,
    record: EvaluationRecord | None,
    curves: Sequence[Curves],
    galleries: Sequence[Gallery],
    facts: Facts,
) -> str:
    """Make the text of the page; see :func:`write_report`."""
    templates = environment()
    browsing = browse(galleries)
    css = templates.get_template("report.css").render() + templates.get_template("gallery.css").render(
        browsing=browsing
    )
    script = templates.get_template("report.js").render()
    styles = _styles(record, curves)
    return templates.get_template("report.html").render(
        title=title,
        css=css,
        script=script,
        policy={"style": policy_hash(css), "script": policy_hash(script)},
        record=record,
        facts=facts,
        **_verdict(record, styles),
        **_maps(browsing),
        styles=styles,
        curves=[(run.run, styles[run.run]) for run in curves],
        charts=make_charts(curves, styles),
    )


def _styles(record: EvaluationRecord | None, curves: Sequence[Curves]) -> dict[str, int]:
    """Give every network one style for the whole page."""
    names = dict.fromkeys([*([] if record is None else record["networks"]), *(run.run for run in curves)])
    return {name: i % STYLES for i, name in enumerate(names)}


def _verdict(record: EvaluationRecord | None, styles: Mapping[str, int]) -> dict[str, Any]:
    if record is None:
        return {}
    return {
        "columns": columns(record),
        "left_out": left_out(record),
        "sections": sections(record),
        "sentences": read_out(record),
        "caveat": caveat(record),
        "groups": group_figures(record),
        "directions": DIRECTIONS,
        "evidence": gather(record, styles),
        "stratum_words": STRATA,
    }


def _maps(browsing: Browsing) -> dict[str, Any]:
    return {"browsing": browsing, "stops": scale_stops(), "difference_stops": scale_stops(11, DIVERGING)}
