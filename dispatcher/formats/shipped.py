"""The definitions that come with the service: of systems that people move from."""

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Final

from dispatcher.formats.definition import Definition, read

_FOLDER: Final = "shipped/formats"


@lru_cache(maxsize=1)
def shipped() -> Mapping[str, Definition]:
    """Return the definitions that come with the service, by their full names."""
    folder = resources.files("dispatcher").joinpath(_FOLDER)
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    definitions = [read(file.read_text(encoding="utf-8"), source=file.name) for file in files]
    return MappingProxyType({definition.full_name: definition for definition in definitions})
