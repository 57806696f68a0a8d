"""What experiments share: configuration, runs that resume, tidy results, claims, seeding, tracking."""
