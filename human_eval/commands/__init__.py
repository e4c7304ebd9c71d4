"""`cogeval human`: the commands of a study, from its design to its result."""
