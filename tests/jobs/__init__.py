"""Jobs survive the process that asked for them, and the one that does them."""
