"""Further commands, a module each."""
