"""Helpers of several test modules: small networks, a slow reference, images, checks of error messages, paths."""
