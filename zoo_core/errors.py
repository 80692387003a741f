"""Every error the zoo raises on purpose derives from :class:`ZooError`.

A message is one line that names what was given, where, and what would be right.
"""

from __future__ import annotations

import re
from typing import Final

_IN_WORKER: Final = re.compile(
    r"Caught \w+ in DataLoader worker process \d+\.\n.*\n[\w.]+: ([^\n]+)\n*", re.DOTALL
)


class ZooError(Exception):
    """Base of the zoo's errors; ``exit_code`` is what the command line exits with."""

    exit_code = 1

    def __init__(self, *args: object) -> None:
        # What a loader's worker raised comes as its whole traceback, which becomes a note.
        found = _IN_WORKER.fullmatch(str(args[0])) if args else None
        super().__init__(*args if found is None else (found[1],))
        if found is not None:
            self.add_note(found[0])

    def __str__(self) -> str:
        # KeyError, a base of one subclass, would print the message's repr.
        return ", ".join(map(str, self.args))


class UsageError(ZooError, ValueError):
    """The request itself is wrong: nothing was tried."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe is malformed, or its parts are of the wrong kind or in the wrong order."""


class UnknownComponentError(UsageError, KeyError):
    """No installed plugin gives a component of this name."""


class AmbiguousComponentError(UsageError):
    """Two distributions give a component of this name; a qualified name decides."""


class OptionError(UsageError):
    """An option is unknown to its component, or has a value that it cannot take."""


class PluginError(ZooError):
    """A plugin cannot be used."""


class ContractError(ZooError, TypeError):
    """A component does not keep the contract of its kind."""


class InputError(ZooError, ValueError):
    """A tensor, batch, picture or argument that a component or model cannot take."""


class RegistryError(ZooError):
    """A registry file breaks its rules; the message says at which line and column."""


class WeightsError(ZooError):
    """Weights cannot be found, fetched, verified or matched with the model."""


class DamagedFileError(WeightsError):
    """A file of weights does not have its hash or its size, or was changed while it was read."""


class SavedModelError(ZooError):
    """A model cannot be saved, or a saved folder cannot be loaded."""


class ExportError(ZooError):
    """A model cannot be exported, or what was exported does not do what the model does."""


class TrainingError(ZooError):
    """Training cannot go on."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be written, or cannot be gone on from."""


class MissingDistributionError(ZooError, ImportError):
    """A class was imported whose distribution is not installed."""


class ZooWarning(UserWarning):
    """Something works, though not in the way one would expect."""


class PluginWarning(ZooWarning):
    """A plugin failed to load, or slows every command down."""
