"""Records to pages. Reads what a run wrote; never imports torch."""
