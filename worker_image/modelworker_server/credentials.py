"""The worker's secrets, which are read from the environment alone: a secret is no flag."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from modelworker_server.settings import PREFIX, InvalidSettings, Settings


class HubSettings(BaseSettings):
    """Where the hub is and who asks, in the hub's own variables."""

    model_config = SettingsConfigDict(
        env_prefix="HF_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    token: SecretStr | None = None
    endpoint: str | None = None

    def usable_token(self) -> str | None:
        """The token without the white space around it, which Secrets made of files have.

        Raises:
            InvalidSettings: it cannot be sent as a header; HTTP libraries quote such a one.
        """
        token = self.token.get_secret_value().strip() if self.token else ""
        if not one_word(token):
            raise InvalidSettings(
                "HF_TOKEN holds white space or characters that no token has; put the token alone "
                "into the Secret"
            )
        return token or None


class DevelopmentSettings(BaseSettings):
    """The token of the engine's development routes."""

    model_config = SettingsConfigDict(
        env_prefix=f"{PREFIX}DEVELOPMENT_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    token: SecretStr | None = None

    def token_for(self, settings: Settings) -> str | None:
        """The token, or None where there are no such routes.

        Raises:
            InvalidSettings: the routes are asked for, and there is no token.
        """
        if not settings.vllm_config.development_routes:
            return None
        if self.token is None:
            raise InvalidSettings(
                f"--vllm: development_routes needs a token in {PREFIX}DEVELOPMENT_TOKEN: set it "
                "from a Secret, or leave development_routes out"
            )
        return self.token.get_secret_value()


def one_word(token: str) -> bool:
    """Whether a token can be sent as a header: a library that refuses one may quote it."""
    return token.isascii() and token.isprintable() and " " not in token
