"""Classes whose annotated attributes are their settings."""

from dataclasses import dataclass
from typing import Any, dataclass_transform


@dataclass_transform(kw_only_default=True, eq_default=False)
class Declared:
    """A base whose subclasses are keyword-only dataclasses: `class Own(Base): mark: str = "!"` takes `Own(mark="?")`.

    A subclass that writes its own `__init__` keeps it, and those below it inherit it.
    """

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        inherited = cls.__init__
        generated = inherited is object.__init__ or hasattr(inherited, "from_fields")
        dataclass(kw_only=True, eq=False, repr=False, init=generated)(cls)
        if generated:
            cls.__init__.from_fields = True
