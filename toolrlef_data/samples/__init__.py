"""Bundled questions, JSON Lines, written for this project."""
