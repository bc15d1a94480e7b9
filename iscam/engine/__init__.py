"""Forward passes over many perturbed copies of an image, nearly as fast as those of the bare network."""
