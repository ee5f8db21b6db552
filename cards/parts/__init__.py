"""Sections shared by the templates."""
