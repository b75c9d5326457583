"""Text, exercises, tokens and the data modules that serve them."""
