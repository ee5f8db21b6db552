"""Templates of the cards, one a kind of data set; `card.py` fills them."""
