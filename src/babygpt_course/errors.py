"""The errors a user can meet. Each message says what was wrong, what was expected and what to do."""


class CourseError(Exception):
    """Base of every error that this package raises on bad input."""


class ConfigError(CourseError):
    """A setting outside its range, such as a negative number of steps."""


class CorpusError(CourseError):
    """A text that cannot be loaded: unknown name, damaged file, no network, unwritable cache."""


class VocabularyError(CourseError):
    """Text or ids that the tokenizer does not know."""


class CheckpointError(CourseError):
    """A model or tokenizer file that is damaged or of another format."""
