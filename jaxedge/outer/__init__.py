"""Search over what the program holds fixed, with a certificate over all of it."""
