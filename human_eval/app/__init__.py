"""The web application of a study: pages that work without a script, and a small script that makes them better."""
