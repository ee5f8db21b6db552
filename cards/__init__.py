"""Templates of the data cards, one per kind of data set; `publishing.card` fills them."""
