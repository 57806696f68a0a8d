"""The experiments. Each subpackage is one; they share `experiments.support` and never import one another."""
