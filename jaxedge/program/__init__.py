"""The convex program that all bounds share, free of units."""
