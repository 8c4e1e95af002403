"""Rows and bytes in and out of one storage system each."""
