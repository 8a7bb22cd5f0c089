"""The report of an evaluation: its record, tables, sentences, gallery and page."""
