"""Forward passes over many perturbed copies of an image, close to the speed of the bare network."""
