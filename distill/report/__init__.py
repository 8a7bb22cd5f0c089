"""Reports: records to one HTML page, to tables and to pictures."""

from distill.report.as_text import markdown_tables, save_table, table_rows
from distill.report.curves import Curves, read_curves
from distill.report.figures import save_grid
from distill.report.page import Facts, write_report
from distill.report.pictures import Gallery, Panel, Picture
from distill.report.record import EvaluationRecord, load_record, save_record, schema

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
