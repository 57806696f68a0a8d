"""Is this input like the internal test data? A guard by distance, and nearest neighbours."""
