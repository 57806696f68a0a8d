"""What an observation tells of the world: where hazards are, and a route around them to the goal."""
