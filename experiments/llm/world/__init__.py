"""The synthetic world of conversations, in which the probability of harm is known, and its models."""
