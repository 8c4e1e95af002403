"""The viewer: a web page on a store (extra ``viewer``)."""

from langcairn.viewer.app import create_app
from langcairn.viewer.serve import serve, title_of

__all__ = ["create_app", "serve", "title_of"]
