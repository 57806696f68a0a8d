"""Upper limits on a risk that hold with a stated confidence: for cases, and for clusters of cases."""
