"""Parts that the templates share."""
