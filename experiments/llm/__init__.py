"""Language generation: a guard chooses among candidate answers of a chat model (arXiv 2504.20924, section
5.3).
"""
