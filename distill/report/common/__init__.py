"""What all reports share: HTML templates, colours, number formats, line charts, training curves."""
