"""The viewer: a web page on a store (extra ``viewer``)."""

try:
    import jinja2 as _jinja2
    import python_multipart as _python_multipart
    import starlette as _starlette
    import uvicorn as _uvicorn
except ImportError as error:
    raise ImportError(
        "the viewer needs starlette, jinja2, uvicorn and python-multipart: "
        "pip install 'langcairn[viewer]'"
    ) from error

from langcairn.viewer.app import create_app
from langcairn.viewer.serve import open_viewed, serve, title_of

__all__ = ["create_app", "open_viewed", "serve", "title_of"]

del _jinja2, _python_multipart, _starlette, _uvicorn
