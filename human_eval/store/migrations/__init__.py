"""Steps from each version of the schema to the next; a step that was published is never edited."""
