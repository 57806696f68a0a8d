"""Safety Gym: a robot reaches goals among hazards behind a guard (arXiv 2504.20924, section 5.2)."""
