"""The scenarios, by what they break. `load` knows all of them; one more file is one more module."""

from importlib import import_module
from pkgutil import iter_modules

LAST = "mixed"  # it chooses among what the others have registered


def load() -> None:
    """Every module of this package is imported, and so its scenarios and mishaps registered."""
    names = [module.name for module in iter_modules(__path__)]
    for name in sorted(names, key=lambda name: (name == LAST, name)):
        import_module(f"{__name__}.{name}")
