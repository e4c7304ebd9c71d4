"""Runs, studies and printed numbers to one document: everything that the leaderboard's pages show."""
