"""A record, curves, galleries and facts -> one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from distill.report.charts import HEIGHT, STYLES, WIDTH, make_charts
from distill.report.colours import colour, data_uri, scale_stops
from distill.report.curves import Curves
from distill.report.pictures import Gallery
from distill.report.reading import caveat, read_out
from distill.report.record import EvaluationRecord
from distill.report.table import COLUMNS, sections

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
        - The page loads nothing: styles and pictures are in it, and its Content-Security-Policy forbids the rest.
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
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(
        render(title=title, record=record, curves=curves, galleries=galleries, facts=facts or {}), encoding="utf-8"
    )
    part.replace(path)
    return path


def render(
    *,
    title: str,
    record: EvaluationRecord | None,
    curves: Sequence[Curves],
    galleries: Sequence[Gallery],
    facts: Facts,
) -> str:
    """Make the text of the page; see :func:`write_report`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("distill.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["colour"] = lambda heat: data_uri(colour(heat))
    css = environment.get_template("report.css").render(
        pictures=[data_uri(picture.pixels) for gallery in galleries for picture in gallery.pictures]
    )
    return environment.get_template("report.html").render(
        title=title,
        css=css,
        css_hash=base64.b64encode(hashlib.sha256(css.encode()).digest()).decode("ascii"),
        record=record,
        galleries=galleries,
        curves=curves,
        facts=facts,
        **_verdict(record),
        charts=make_charts(curves),
        chart={"width": WIDTH, "height": HEIGHT, "styles": STYLES},
        stops=scale_stops(),
    )


def _verdict(record: EvaluationRecord | None) -> dict[str, Any]:
    if record is None:
        return {"columns": COLUMNS, "sections": (), "sentences": [], "caveat": ""}
    return {
        "columns": COLUMNS,
        "sections": sections(record),
        "sentences": read_out(record),
        "caveat": caveat(record),
    }
