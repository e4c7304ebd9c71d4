"""The database of a study: SQLite in one file, or PostgreSQL by URL, with the same rows in both."""
