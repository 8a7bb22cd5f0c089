"""The report of an evaluation: record, tables, sentences, gallery and page."""
