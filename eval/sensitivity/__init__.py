"""Real clips, graded corruptions, and how every metric responds: which metric sees what, and which sees motion."""
