"""Personal data in text: what it looks like, which checksum proves it, what stands in its place."""
