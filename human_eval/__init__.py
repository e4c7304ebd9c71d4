"""People to ratings to statistics: the human study."""
