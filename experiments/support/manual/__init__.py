"""What a user can set, told from the schemas: the page of all settings and `python run.py --help`."""
