"""From saved runs to tables, figures and claims."""
