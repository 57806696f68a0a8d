"""Tidy results, claims, and what figures and tables are drawn from."""
