"""Keeping what is stored secret, or authentic, whatever system stores it.

Both are done by a backend that stands before another one and passes on every request in another
form, so that all that is above works with plain rows and all that is below never sees one.
"""
