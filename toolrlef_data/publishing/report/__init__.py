"""Report: a published version, or two of them side by side, as one HTML file that needs no network.

`writing` writes the file: the page of the folder `page`, the `card_figures` and the compressed rows. `rows` reads the
rows in batches and states how each differs from the other version. `requests` renders the requests to the models, as
far as the version has their parts.

The scripts of the page are plain JavaScript, in the format of prettier with a width of 120.
"""
