"""Production planning: four products, uncertain demand, no production where demand may fall below 3."""
