"""Raters with a known truth, through the real pages."""
