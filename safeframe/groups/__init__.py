"""One chance constraint over several groups of cases: per group, pooled, or for the worst of them."""
