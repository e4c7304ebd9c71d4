"""One data set a file: what lies on disk -> items with class, caption, group and split."""
