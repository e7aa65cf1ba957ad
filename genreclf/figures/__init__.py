"""One picture each, drawn with matplotlib."""
