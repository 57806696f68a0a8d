"""Episodes of guarded and unguarded agents, cut into jobs, and the entries into hazards."""
