"""What the hub's client raises, as one line and a hint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import LplanError, UsageError


class HubUnreachableError(LplanError):
    """The hub was not asked or did not answer, and the cache could not answer for it."""


@contextmanager
def errors_for_users(repo_id: str, near: str = "") -> Iterator[None]:
    """Turns the client's exceptions inside the block into LplanError and UsageError.

    A hub that does not answer becomes HubUnreachableError. `near` is a hint that names known models; it is
    offered where another one may have been meant.
    """
    from huggingface_hub import constants, errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise LplanError(
            f"{repo_id} is gated: the hub wants its terms accepted first",
            hint=f"accept them at https://huggingface.co/{repo_id}, then run `hf auth login`",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UsageError(f"the hub has no model {repo_id}, or it is private", hint=near) from error
    except errors.HFValidationError as error:
        raise UsageError(f"{repo_id!r} cannot be a hub id", hint=near) from error
    except errors.LocalEntryNotFoundError as error:
        raise _not_at_hand(repo_id, near, offline=constants.is_offline_mode()) from error
    except errors.EntryNotFoundError as error:
        raise LplanError(
            f"{repo_id} on the hub has no config.json",
            hint="of an adapter, name the base model; of a GGUF model, download the file and name it",
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        kind = HubUnreachableError if status == 429 or status >= 500 else LplanError
        raise kind(f"the hub answered {status} when asked for {repo_id}", hint="try again later") from error
    except _transport_errors(errors) as error:
        raise _not_at_hand(repo_id, near, offline=False) from error


def _transport_errors(errors: Any) -> tuple[type[Exception], ...]:
    # The root of the HTTP library's exceptions, by way of the client, which changes libraries.
    return errors.HTTPError, OSError


def _not_at_hand(repo_id: str, near: str, *, offline: bool) -> HubUnreachableError:
    hint = "; ".join(filter(None, ("give a folder with its config.json", near)))
    if offline:
        return HubUnreachableError(f"{repo_id} is not in the hub cache, and HF_HUB_OFFLINE is set", hint=hint)
    return HubUnreachableError(f"the hub cannot be reached, and {repo_id} is not in its cache", hint=hint)
