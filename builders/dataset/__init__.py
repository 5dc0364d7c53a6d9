"""A finished data set: what stands in its folder, and how it is read."""
