"""The report of an ablation: record, tables, sentences, plots and page."""
