"""Recipes that come with the package; see `toolrlef_data.recipe`."""
