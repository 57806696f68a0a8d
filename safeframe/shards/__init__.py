"""The exact curve of more cases than fit in memory: where shards of cases come from, and their curve."""
