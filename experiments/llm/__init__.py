"""Language generation: a guard chooses a chat model's answers (arXiv 2504.20924, section 5.3)."""
