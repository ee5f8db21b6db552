"""Figures of the data card and the report: bar charts as SVG files, with the same numbers as alternative text.

The background is transparent, and the colours suit light and dark pages. Equal counts give equal bytes with one version
of matplotlib. `charts` makes the figures from counts, `drawing` draws their bars.
"""
