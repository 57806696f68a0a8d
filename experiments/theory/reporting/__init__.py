"""From a saved run to tables, figures and claims."""
