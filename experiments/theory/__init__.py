"""The theorems as experiments: problems whose truth is known (arXiv 2504.20924, Theorems 1 to 3)."""
