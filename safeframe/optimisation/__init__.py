"""The optimisation stage: finite candidates, convex programs, quadratic programs in closed form."""
