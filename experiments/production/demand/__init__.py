"""Where demand comes from: synthetic series or real ones, cut into cases."""
