"""What is wrong with a file or a folder of a data set."""

from __future__ import annotations

from zoo_core.errors import InputError


class DataError(InputError):
    """A file or a folder of a data set cannot be used as it is.

    Attributes:
        file: Which one.
        problem: What is wrong with it.
        mend: What to do.
    """

    def __init__(self, file: object, problem: str = "", mend: str = "") -> None:
        super().__init__(f"{file}: {problem}; {mend}" if problem else str(file))
        if not problem:  # a loader's worker hands an error on as one text
            file, _, told = str(self).partition(": ")
            problem, _, mend = told.partition("; ")
        self.file = str(file)
        self.problem = problem
        self.mend = mend
