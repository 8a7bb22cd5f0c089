"""The report of an ablation: its record, tables, sentences, plots and page."""
