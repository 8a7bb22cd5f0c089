"""Reports: HTML pages, tables and pictures made from the records of evaluations and ablations."""

from distill.report.common.curves import Curves, read_curves
from distill.report.common.html import Facts
from distill.report.evaluation.gallery import Gallery, Panel, Picture, save_grid
from distill.report.evaluation.page import write_report
from distill.report.evaluation.record import (
    EvaluationRecord,
    load_record,
    save_record,
    schema,
)
from distill.report.evaluation.text import markdown_tables, save_table, table_rows

__all__ = [
    "Curves",
    "EvaluationRecord",
    "Facts",
    "Gallery",
    "Panel",
    "Picture",
    "load_record",
    "markdown_tables",
    "read_curves",
    "save_grid",
    "save_record",
    "save_table",
    "schema",
    "table_rows",
    "write_report",
]
