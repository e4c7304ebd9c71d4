"""The board as a folder of static pages that opens by double click."""
