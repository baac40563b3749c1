"""Access tokens are not repeated, whatever a library says."""

import pytest

from lplan.profiles.secrets import redacted

TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567"


@pytest.mark.parametrize(
    ("text", "environment", "told"),
    [
        (f"401 for {TOKEN}.", {}, "401 for ***."),
        ("key sesame-open-now is wrong", {"WANDB_API_KEY": "sesame-open-now"}, "key *** is wrong"),
        ("Authorization: Bearer abc.def", {}, "Authorization: Bearer ***"),
        ("https://me:hunter2@hub/x failed", {}, "https://***@hub/x failed"),
        ("the token is hf_ and the path is /home/me", {"HOME": "/home/me", "MY_TOKEN": "is"}, None),
    ],
)
def test_tokens_are_hidden_and_nothing_else(text, environment, told):
    assert redacted(text, environment) == (text if told is None else told)
