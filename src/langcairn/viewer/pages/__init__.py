"""The pages, one module each: ``show`` answers a request."""
