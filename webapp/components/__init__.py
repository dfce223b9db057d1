"""Components drawn by JavaScript, one folder each, with their Python functions."""
