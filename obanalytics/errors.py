"""Name everything that can go wrong: one base class, few subclasses, two warnings."""

from __future__ import annotations


class ObanalyticsError(Exception):
    """Base of every error that obanalytics raises on purpose.

    Parameters
    ----------
    message : str
        What happened, where, how far we got, and what to do.
    instance_id : str or None
        The instance concerned, when one is.
    request_id : str or None
        The server's request id, else the one that was sent.
    status : int or None
        The HTTP status, when there was a response.
    code : str or None
        The server's `errorCode`, when it sent one.
    retryable : bool
        Whether the same call may succeed later without a change.
    """

    def __init__(
        self,
        message: str,
        *,
        instance_id: str | None = None,
        request_id: str | None = None,
        status: int | None = None,
        code: str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.instance_id = instance_id
        self.request_id = request_id
        self.status = status
        self.code = code
        self.retryable = retryable


class CredentialsError(ObanalyticsError):
    """No usable keys were found; nothing was sent."""


class AuthenticationError(ObanalyticsError):
    """The server refused the keys."""


class ApiError(ObanalyticsError):
    """The server or the network answered with something other than the data asked for."""


class PagingError(ObanalyticsError):
    """The pages of a list do not add up to what the server says there is."""


class DataError(ObanalyticsError):
    """A response, a file or a frame holds something that it cannot hold."""


class ArchiveError(ObanalyticsError):
    """A saved folder or an archive cannot be read or written as it is."""


class MissingExtraError(ObanalyticsError):
    """An optional package is needed; the message says what to install."""


class DataWarning(UserWarning):
    """The data was read, and something about it needs a reader's attention."""


class ClientWarning(UserWarning):
    """The call works, but not as safely or as surely as it could."""
