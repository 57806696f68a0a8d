"""What monitors are made of: bets on a risk, a detector of later changes, checks, reports."""
