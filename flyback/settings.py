"""Every setting, once: from the environment, from `.env`, or given by keyword.

A secret may also come from a file: `KAFKA_SASL_PASSWORD_FILE=/run/secrets/kafka` stands for
`KAFKA_SASL_PASSWORD=<content of that file>`. `.env.example` lists every variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from flyback.errors import ConfigurationError

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def _duration(value: object) -> object:
    """`30d`, `12h`, `10m`, `5s`, `100ms`: what a person writes; everything else is left to pydantic."""
    if not isinstance(value, str) or value.startswith(("P", "-P")):  # ISO 8601
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", value.strip())
    if match is None:
        raise ValueError("write a number and its unit (ms, s, m, h or d), such as 30d")
    try:
        return float(match[1]) * _UNITS[match[2]]
    except OverflowError:
        raise ValueError("is longer than time can be counted") from None


Duration = Annotated[timedelta, BeforeValidator(_duration), Field(ge=timedelta(0))]


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads `<VARIABLE>_FILE`, from the environment or `.env`, for every setting that is a secret."""

    def __init__(self, settings_cls: type[BaseSettings], dotenv: Mapping[str, str | None]) -> None:
        super().__init__(settings_cls)
        self._dotenv = dotenv

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        variable = str(field.validation_alias)
        name = f"{variable}_FILE"
        path = os.environ.get(name) or self._dotenv.get(name.lower())
        if not path or "SecretStr" not in str(field.annotation):
            return None, variable, False
        try:
            secret = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"{name}: cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError:  # not chained: it holds the file's bytes
            raise ConfigurationError(f"{name}: {path} is not UTF-8 text") from None
        if not secret:
            raise ConfigurationError(f"{name}: {path} is empty")
        return secret, variable, False

    def __call__(self) -> dict[str, Any]:
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, _ = self.get_field_value(field, name)
            if value is not None:
                found[key] = value
        return found


def _env(name: str, default: Any, doc: str, **rules: Any) -> Any:
    return Field(default, validation_alias=name, description=doc, **rules)


class Settings(BaseSettings):
    """All settings with their defaults. Keywords are field names (`lake=`), the environment has upper-case names."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True)

    def __init__(self, **given: Any) -> None:
        # not by populate_by_name: that would also read GROUP, LAKE or LOG_LEVEL from the environment
        fields = type(self).model_fields
        super().__init__(**{_variable((key,)) if key in fields else key: value for key, value in given.items()})

    # Kafka
    bootstrap_servers: str = _env(
        "KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092", "Kafka's addresses, host:port, comma-separated."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = _env(
        "KAFKA_SECURITY_PROTOCOL", "PLAINTEXT", "How to talk to Kafka."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = _env(
        "KAFKA_SASL_MECHANISM", "SCRAM-SHA-512", "SASL mechanism, for the SASL_* protocols."
    )
    sasl_username: str | None = _env("KAFKA_SASL_USERNAME", None, "SASL user.")
    sasl_password: SecretStr | None = _env("KAFKA_SASL_PASSWORD", None, "SASL password.")
    ssl_ca_location: Path | None = _env("KAFKA_SSL_CA_LOCATION", None, "CA certificates (PEM) that sign the brokers.")
    ssl_certificate_location: Path | None = _env("KAFKA_SSL_CERTIFICATE_LOCATION", None, "Client certificate (PEM).")
    ssl_key_location: Path | None = _env("KAFKA_SSL_KEY_LOCATION", None, "Client key (PEM).")
    ssl_key_password: SecretStr | None = _env("KAFKA_SSL_KEY_PASSWORD", None, "Password of the client key.")

    # Schema registry
    registry_url: str | None = _env(
        "SCHEMA_REGISTRY_URL",
        None,
        "Confluent-compatible registry; without it schema ids are hashes of the schemas.",
    )
    registry_username: str | None = _env("SCHEMA_REGISTRY_USERNAME", None, "Registry user (basic authentication).")
    registry_password: SecretStr | None = _env("SCHEMA_REGISTRY_PASSWORD", None, "Registry password.")
    registry_ssl_ca_location: Path | None = _env(
        "SCHEMA_REGISTRY_SSL_CA_LOCATION", None, "CA certificates (PEM) of the registry."
    )

    # Topics
    topic_prefix: str = _env(
        "FLYBACK_TOPIC_PREFIX", "flyback.", "Put before every topic's name.", pattern=r"^[A-Za-z0-9._-]+$"
    )
    partitions: int = _env("FLYBACK_PARTITIONS", 4, "Partitions of every event topic, when topics are created.", ge=1)
    replication_factor: int = _env("FLYBACK_REPLICATION_FACTOR", 1, "Replicas, when topics are created.", ge=1)
    max_event_bytes: int = _env(
        "FLYBACK_MAX_EVENT_BYTES",
        1_000_000,
        "Largest raw event; bytes of the Kafka message value.",
        ge=1_000,
        le=100_000_000,
    )

    # Streams
    group: str = _env("FLYBACK_GROUP", "flyback-streams", "Consumer group of the workers.", min_length=1)
    join_window: Duration = _env(
        "FLYBACK_JOIN_WINDOW",
        timedelta(days=30),
        "Pairs are joined if they arrive at most this far apart.",
        gt=timedelta(0),
    )
    state_dir: Path = _env(
        "FLYBACK_STATE_DIR", Path("flyback-data/state"), "The worker's state; one folder for each worker."
    )
    transaction_interval: Duration = _env(
        "FLYBACK_TRANSACTION_INTERVAL", timedelta(milliseconds=100), "From one transaction to the next."
    )
    batch_events: int = _env("FLYBACK_BATCH_EVENTS", 10_000, "Most events in one transaction.", ge=1)
    batch_bytes: int = _env("FLYBACK_BATCH_BYTES", 16_000_000, "Bytes after which a transaction is closed.", ge=1)
    session_timeout: Duration = _env(
        "FLYBACK_SESSION_TIMEOUT", timedelta(seconds=10), "Kafka's session timeout of a worker."
    )
    transaction_timeout: Duration = _env(
        "FLYBACK_TRANSACTION_TIMEOUT", timedelta(seconds=10), "Kafka's transaction timeout of a worker."
    )
    unknown_schema: Literal["stop", "dead-letter"] = _env(
        "FLYBACK_UNKNOWN_SCHEMA", "stop", "After the timeout: stop the worker, or dead-letter the message."
    )
    unknown_schema_timeout: Duration = _env(
        "FLYBACK_UNKNOWN_SCHEMA_TIMEOUT", timedelta(minutes=1), "How long an unknown schema id is retried."
    )
    max_dead_letters: int = _env(
        "FLYBACK_MAX_DEAD_LETTERS", 1_000, "Dead letters in one minute after which a worker or a sink stops.", ge=1
    )

    # Alerts
    alert_rules: Path | None = _env(
        "FLYBACK_ALERT_RULES", None, "TOML file with the alert rules; without it the built-in ones hold."
    )
    alert_webhook_url: SecretStr | None = _env(
        "FLYBACK_ALERT_WEBHOOK_URL", None, "Where alerts are sent that fire or are resolved, http:// or https://."
    )
    alert_webhook_secret: SecretStr | None = _env(
        "FLYBACK_ALERT_WEBHOOK_SECRET", None, "What these messages are signed with; needed where there is a webhook."
    )

    # Lake
    lake: str = _env("FLYBACK_LAKE", "flyback-data/lake", "Folder or s3:// address of the lake.")
    commit_interval: Duration = _env(
        "FLYBACK_COMMIT_INTERVAL", timedelta(seconds=2), "A table is committed at the latest after this."
    )
    commit_rows: int = _env(
        "FLYBACK_COMMIT_ROWS", 50_000, "A table is committed at the latest at this many rows.", ge=1
    )
    commit_bytes: int = _env(
        "FLYBACK_COMMIT_BYTES",
        32_000_000,
        "A table is committed at the latest at this many bytes of messages.",
        ge=1,
    )
    maintenance_interval: Duration = _env(
        "FLYBACK_MAINTENANCE_INTERVAL",
        timedelta(hours=1),
        "How often the sink compacts and vacuums; 0s: never.",
    )
    vacuum_retention: Duration = _env(
        "FLYBACK_VACUUM_RETENTION", timedelta(days=7), "How long files of older versions are kept."
    )

    # SDK
    buffer_events: int = _env("FLYBACK_BUFFER_EVENTS", 100_000, "Most events that wait in a client's memory.", ge=1)
    buffer_bytes: int = _env(
        "FLYBACK_BUFFER_BYTES", 128_000_000, "Most bytes that wait in a client's memory.", ge=1_000_000
    )
    linger: Duration = _env("FLYBACK_LINGER", timedelta(milliseconds=20), "How long the client gathers a batch.")
    delivery_timeout: Duration = _env(
        "FLYBACK_DELIVERY_TIMEOUT",
        timedelta(minutes=2),
        "After this an undelivered event is reported as failed.",
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = _env(
        "FLYBACK_COMPRESSION", "lz4", "Compression of what we produce."
    )

    # Operations
    http_host: str = _env("FLYBACK_HTTP_HOST", "127.0.0.1", "Address of the health and metrics endpoint.")
    worker_http_port: int = _env(
        "FLYBACK_WORKER_HTTP_PORT", 9464, "Port of the worker's endpoint; 0: any free one.", ge=0, le=65535
    )
    sink_http_port: int = _env(
        "FLYBACK_SINK_HTTP_PORT", 9465, "Port of the sink's endpoint; 0: any free one.", ge=0, le=65535
    )
    dashboard_host: str = _env("FLYBACK_DASHBOARD_HOST", "127.0.0.1", "Address that the dashboard listens on.")
    dashboard_port: int = _env(
        "FLYBACK_DASHBOARD_PORT", 9466, "Port of the dashboard; 0: any free one.", ge=0, le=65535
    )
    dashboard_token: SecretStr | None = _env(
        "FLYBACK_DASHBOARD_TOKEN", None, "Who knows it may look: a bearer token, or the password of any user."
    )
    dashboard_user: str | None = _env("FLYBACK_DASHBOARD_USER", None, "User who may look.")
    dashboard_password: SecretStr | None = _env("FLYBACK_DASHBOARD_PASSWORD", None, "Password of that user.")
    log_level: Literal["debug", "info", "warning", "error"] = _env(
        "FLYBACK_LOG_LEVEL", "info", "Least severe log lines to write."
    )
    log_format: Literal["auto", "text", "json"] = _env(
        "FLYBACK_LOG_FORMAT", "auto", "auto: text on a terminal, JSON otherwise."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        in_dotenv = dotenv_settings.env_vars if isinstance(dotenv_settings, DotEnvSettingsSource) else {}
        return init_settings, env_settings, _SecretFiles(settings_cls, in_dotenv), dotenv_settings

    def kafka(self, **more: Any) -> dict[str, Any]:
        """librdkafka configuration that every confluent-kafka client of ours starts from: address and security."""
        config: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol,
        }
        if self.security_protocol.startswith("SASL"):
            if not self.sasl_username or self.sasl_password is None:
                raise ConfigurationError(
                    f"KAFKA_SECURITY_PROTOCOL={self.security_protocol} needs KAFKA_SASL_USERNAME and "
                    "KAFKA_SASL_PASSWORD"
                )
            config |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.sasl_username,
                "sasl.password": self.sasl_password.get_secret_value(),
            }
        if self.security_protocol.endswith("SSL"):
            files = {
                "ssl.ca.location": self.ssl_ca_location,
                "ssl.certificate.location": self.ssl_certificate_location,
                "ssl.key.location": self.ssl_key_location,
            }
            config |= {key: str(path) for key, path in files.items() if path is not None}
            if self.ssl_key_password is not None:
                config["ssl.key.password"] = self.ssl_key_password.get_secret_value()
        return config | {key.replace("_", "."): value for key, value in more.items()}

    def registry(self) -> dict[str, Any]:
        """confluent-kafka's `SchemaRegistryClient` configuration. Raises ConfigurationError without a URL."""
        if self.registry_url is None:
            raise ConfigurationError("SCHEMA_REGISTRY_URL is not set")
        # without a timeout a registry that accepts and is silent blocks for ever; our callers retry by themselves
        config: dict[str, Any] = {"url": self.registry_url, "timeout": 5, "max.retries": 0}
        if self.registry_username is not None:
            password = self.registry_password.get_secret_value() if self.registry_password else ""
            config["basic.auth.user.info"] = f"{self.registry_username}:{password}"
        if self.registry_ssl_ca_location is not None:
            config["ssl.ca.location"] = str(self.registry_ssl_ca_location)
        return config

    def environment(self) -> dict[str, str]:
        """All settings as variables for a child process, secrets included."""
        found = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, SecretStr):
                value = value.get_secret_value()
            if isinstance(value, timedelta):
                value = f"{round(value / timedelta(milliseconds=1))}ms"
            found[str(field.validation_alias)] = str(value)
        return found


def load(**given: Any) -> Settings:
    """The settings from keyword, environment and `.env`, in this order; None counts as not given.

    Raises ConfigurationError naming the variable and what it may be; a secret's value is never in the message.
    """
    if unknown := given.keys() - Settings.model_fields.keys():
        raise ConfigurationError(f"no such setting: {', '.join(sorted(unknown))}; flyback.settings.Settings lists them")
    try:
        return Settings(**{key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        lines = [f"{_variable(e['loc'])}: {e['msg']}" for e in error.errors(include_input=False)]
        raise ConfigurationError("; ".join(lines)) from None


def _variable(location: tuple[int | str, ...]) -> str:
    name = str(location[0]) if location else "settings"
    field = Settings.model_fields.get(name)
    return str(field.validation_alias) if field is not None else name


def variables() -> Mapping[str, str]:
    """Every environment variable with its description, in the order in which they are documented."""
    return {str(field.validation_alias): str(field.description) for field in Settings.model_fields.values()}
