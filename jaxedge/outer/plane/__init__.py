"""The best rounds of both stages at once, with a certificate, for losses of decaying modes."""
