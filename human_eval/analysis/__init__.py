"""Tidy tables of a study to statistics with intervals. No web, no database, no torch."""
