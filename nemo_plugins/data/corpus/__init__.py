"""What becomes of documents before they are training text."""
