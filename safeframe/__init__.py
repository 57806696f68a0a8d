"""safeframe: probability-of-unsafe guarantees around any model (arXiv 2504.20924)."""
