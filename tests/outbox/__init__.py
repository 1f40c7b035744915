"""Publishing in the same transaction: once if it commits, never if it does not."""
