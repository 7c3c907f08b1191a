"""The one tree of errors that a caller may want to catch; everything else is a bug and may crash.

TDMError
├── ConfigError          a file, option or environment variable is wrong: exit status 2
│   └── PresetError      a system's preset cannot be read or names what is not there
├── RequestError         a prompt, seed or step count outside its range: shown beside the field
├── BusyError            too many others wait for the same
├── LoadError            weights are missing, gated, half-downloaded or do not fit
├── SamplingError        a run broke off (out of memory, no numbers in the picture)
├── TrainingError        a run cannot go on (non-finite loss, checkpoint of another configuration)
├── EvaluationError      a run folder is incomplete or of another suite
└── StudyError           the study refuses
    ├── UnknownTrialError
    ├── ExpiredTrialError
    ├── DuplicateVoteError
    ├── EarlyVoteError   a vote before the server has sent both sides and seen the minimum view
    ├── YoungAccountError  made later than the study's rules allow
    ├── SilentHubError   the Hub did not say how old an account is
    ├── InvitationError  the code is unknown, or somebody has used it
    ├── StudyClosedError
    ├── StudyPausedError
    ├── TooManyRequestsError  in too short a time
    ├── StudyOpenError   results are asked for while votes are still taken
    └── StorageError     the database is missing, locked, read-only or full

A message has at most two lines and says what is wrong, where, and how to mend it.
"""


class TDMError(Exception):
    """Base of all errors that this project raises on purpose."""


class ConfigError(TDMError):
    """A configuration that cannot be used; the message names the file and the key."""


class PresetError(ConfigError):
    """A preset that cannot be read, or that names a file that is not there."""


class RequestError(TDMError):
    """A request value outside its range; the message names the range."""


class BusyError(TDMError):
    """Too many others wait for the same; nothing was begun.  The message estimates how long they will take."""


class LoadError(TDMError):
    """Weights that are missing, incomplete or do not fit their base."""


class SamplingError(TDMError):
    """A sample that could not be made although its weights were loaded."""


class TrainingError(TDMError):
    """A training run that cannot go on."""


class EvaluationError(TDMError):
    """An evaluation run that is incomplete or belongs to another suite."""


class StudyError(TDMError):
    """The study refuses a request; nothing was counted."""


class UnknownTrialError(StudyError):
    """No such trial for this rater."""


class ExpiredTrialError(StudyError):
    """The trial was issued too long ago."""


class DuplicateVoteError(StudyError):
    """The trial has a vote already."""


class EarlyVoteError(StudyError):
    """The vote came before both sides could have been seen."""


class TooManyRequestsError(StudyError):
    """Too much was asked for in too short a time; in ``seconds`` there is room again."""

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class YoungAccountError(StudyError):
    """The rater's account has not existed for long enough."""


class SilentHubError(StudyError):
    """The Hub did not answer a question about a rater's account."""


class InvitationError(StudyError):
    """The code lets nobody in, or let somebody else in."""


class StudyClosedError(StudyError):
    """The study takes no more votes."""


class StudyPausedError(StudyError):
    """Whoever holds the study has paused it; nothing was counted, and nothing is lost."""


class StudyOpenError(StudyError):
    """The study still takes votes; its results stay hidden until it is closed."""


class StorageError(StudyError):
    """The database refused; nothing was acknowledged."""
