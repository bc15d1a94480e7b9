"""What several test modules share: small networks, a slow reference, images, checks of error messages, paths."""
