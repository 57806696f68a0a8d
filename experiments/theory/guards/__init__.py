"""What guards promise, counted on laws that are known: rules, groups, prices, monitors."""
