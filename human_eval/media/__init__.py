"""Videos that tell a rater nothing but their pixels."""
