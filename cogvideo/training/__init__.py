"""Training of every network of CogVideo: recipes in `recipes`, one loop in `engine`, what is minimised in `tasks`."""
