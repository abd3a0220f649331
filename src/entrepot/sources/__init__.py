"""Source drivers: the indexes that own bytes."""
