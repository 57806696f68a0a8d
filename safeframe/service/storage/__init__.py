"""What a log is made of: the file, what is written, labels, and the table of all decisions."""
