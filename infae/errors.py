"""Errors and warnings that a caller may want to catch by name."""


class NotFittedError(ValueError, AttributeError):
    """A model was asked for scores before `fit`.

    It is both a ValueError and an AttributeError, as scikit-learn's is, so that code written
    for either catches it.
    """


class SingularKernelError(ArithmeticError):
    """The regularised Gram matrix could not be inverted to any useful accuracy."""


class NonFiniteScoresError(ValueError):
    """Scores hold NaN or infinity, which cannot be ranked."""


class NoUsableSettingError(ValueError):
    """Of all settings tried none has a finite value on validation."""


class IllConditionedWarning(RuntimeWarning):
    """A solve came back, but rounding error is a visible part of the answer."""


class ModelFileError(ValueError):
    """A file is not a model this version can read: foreign, truncated, damaged or newer."""


class DataNotFoundError(FileNotFoundError):
    """The files of a data set are not where they were looked for."""


class DataFormatError(ValueError):
    """A file was found, but does not hold what its format promises."""
