"""Models of pydantic's v1 interface, which only runs up to Python 3.13."""

from __future__ import annotations

from pydantic.v1 import BaseModel


class OldAddress(BaseModel):
    """A pydantic model of the v1 interface."""

    street: str
    number: int = 1


class OldPerson(BaseModel):
    """A model with models in it."""

    name: str
    homes: list[OldAddress] = []
