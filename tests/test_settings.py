"""Settings: from keyword, environment, secret files and `.env`, in this order; errors name the variable, no secret."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from flyback.errors import ConfigurationError
from flyback.settings import Settings, load, variables

CANARY = "canary-s3cret"
SECRETS = [
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SSL_KEY_PASSWORD",
    "SCHEMA_REGISTRY_PASSWORD",
]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `.env` of the developer's is read."""
    monkeypatch.chdir(tmp_path)


def error(**given_: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(**given_)
    return str(caught.value)


def test_everything_has_a_default() -> None:
    settings = load()
    assert settings.bootstrap_servers == "127.0.0.1:9092"
    assert settings.join_window == timedelta(days=30)
    assert settings.kafka() == {"bootstrap.servers": "127.0.0.1:9092", "security.protocol": "PLAINTEXT"}


def test_keyword_beats_environment_beats_secret_file_beats_dotenv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def password(**given_: Any) -> str:
        found = load(**given_).sasl_password
        assert found is not None
        return found.get_secret_value()

    (tmp_path / ".env").write_text("KAFKA_SASL_PASSWORD=from dotenv\n")
    assert password() == "from dotenv"
    (tmp_path / "secret").write_text("from file\n")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD_FILE", "secret")
    assert password() == "from file"
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "from environment")
    assert password() == "from environment"
    assert password(sasl_password="from keyword") == "from keyword"


def test_a_keyword_beats_the_environment_for_every_kind_of_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYBACK_LAKE", "environment")
    monkeypatch.setenv("FLYBACK_JOIN_WINDOW", "1d")
    monkeypatch.setenv("FLYBACK_PARTITIONS", "9")
    settings = load(lake="keyword", join_window="2d", partitions=3)
    assert (settings.lake, settings.join_window, settings.partitions) == ("keyword", timedelta(days=2), 3)
    assert Settings(lake="keyword").lake == "keyword"


def test_none_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYBACK_LAKE", "environment")
    assert load(lake=None).lake == "environment"


def test_a_keyword_that_is_no_setting_is_refused() -> None:
    assert "lakee" in error(lakee="x")


@pytest.mark.parametrize("field", list(Settings.model_fields))
def test_a_variable_named_like_a_field_is_not_ours(field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GROUP, LAKE, LINGER, LOG_LEVEL ... mean something else in other people's environments."""
    monkeypatch.setenv(field.upper(), "7")
    monkeypatch.setenv(field, "7")
    (tmp_path / ".env").write_text(f"{field}=7\n{field.upper()}=7\n")
    assert load() == Settings.model_construct()


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in variables():
        monkeypatch.setenv(variable, "")
        monkeypatch.setenv(f"{variable}_FILE", "")
    assert load() == Settings.model_construct()


def test_other_variables_in_dotenv_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SOMETHING_ELSE=1\nFLYBACK_LAKE=here\n")
    assert load().lake == "here"


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("10m", timedelta(minutes=10)),
        ("5s", timedelta(seconds=5)),
        ("100ms", timedelta(milliseconds=100)),
        ("1.5h", timedelta(minutes=90)),
        (" 5 s ", timedelta(seconds=5)),
        ("P1DT2H", timedelta(days=1, hours=2)),
    ],
)
def test_durations_are_written_as_people_write_them(
    text: str, duration: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYBACK_JOIN_WINDOW", text)
    assert load().join_window == duration
    assert load(join_window=text).join_window == duration


@pytest.mark.parametrize(
    "text", ["soon", "90", "5 weeks", "-5s", "-P1D", "5d12h", "99999999999999d", "0s", "1e9s", "inf"]
)
def test_what_is_no_window_is_refused_by_its_variable(text: str) -> None:
    assert error(join_window=text).startswith("FLYBACK_JOIN_WINDOW: ")


def test_a_refused_duration_says_how_one_is_written() -> None:
    assert "such as 30d" in error(join_window="a month")


def test_a_duration_that_means_never_may_be_zero() -> None:
    assert load(maintenance_interval="0s").maintenance_interval == timedelta(0)
    assert error(maintenance_interval="-1s").startswith("FLYBACK_MAINTENANCE_INTERVAL: ")


@pytest.mark.parametrize(
    ("field", "value", "variable"),
    [
        ("partitions", 0, "FLYBACK_PARTITIONS"),
        ("partitions", "many", "FLYBACK_PARTITIONS"),
        ("max_event_bytes", 10, "FLYBACK_MAX_EVENT_BYTES"),
        ("topic_prefix", "a b.", "FLYBACK_TOPIC_PREFIX"),
        ("topic_prefix", "", "FLYBACK_TOPIC_PREFIX"),
        ("security_protocol", "TLS", "KAFKA_SECURITY_PROTOCOL"),
        ("group", "", "FLYBACK_GROUP"),
        ("worker_http_port", 70_000, "FLYBACK_WORKER_HTTP_PORT"),
        ("compression", "rar", "FLYBACK_COMPRESSION"),
        ("unknown_schema", "ignore", "FLYBACK_UNKNOWN_SCHEMA"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_variable(field: str, value: object, variable: str) -> None:
    assert error(**{field: value}).startswith(f"{variable}: ")


def test_every_wrong_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYBACK_PARTITIONS", "none")
    monkeypatch.setenv("FLYBACK_COMPRESSION", "rar")
    said = error()
    assert "FLYBACK_PARTITIONS" in said
    assert "FLYBACK_COMPRESSION" in said
    assert "gzip" in said  # what it may be


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().lake = "elsewhere"


@pytest.mark.parametrize("variable", SECRETS)
def test_a_secret_may_come_from_a_file(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text(f"{CANARY}\n")
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "secret"))
    assert load().environment()[variable] == CANARY


def test_the_secret_s_file_may_be_named_in_dotenv(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(CANARY)
    (tmp_path / ".env").write_text("KAFKA_SASL_PASSWORD_FILE=secret\n")
    assert load().environment()["KAFKA_SASL_PASSWORD"] == CANARY


def test_only_a_secret_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("elsewhere")
    monkeypatch.setenv("FLYBACK_LAKE_FILE", "secret")
    assert load().lake == "flyback-data/lake"
    assert [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)] == [
        "sasl_password",
        "ssl_key_password",
        "registry_password",
        "alert_webhook_url",
        "alert_webhook_secret",
        "dashboard_token",
        "dashboard_password",
    ]


@pytest.mark.parametrize(("content", "problem"), [(None, "No such file"), (b"\xff" * 9, "UTF-8"), (b" \n", "empty")])
def test_a_secret_s_file_that_cannot_be_read_is_named(
    content: bytes | None, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    monkeypatch.setenv("KAFKA_SASL_PASSWORD_FILE", "secret")
    said = error()
    assert said.startswith("KAFKA_SASL_PASSWORD_FILE: ")
    assert problem in said


def test_a_secret_is_in_no_message_and_in_no_representation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given_ = dict.fromkeys(("sasl_password", "ssl_key_password", "registry_password"), CANARY)
    assert CANARY not in repr(load(**given_)) + str(load(**given_))
    assert CANARY not in load(**given_).model_dump_json()
    assert CANARY not in error(**given_, partitions=0)
    for variable in SECRETS:
        monkeypatch.setenv(variable, CANARY)
    assert CANARY not in error(compression="rar")
    assert CANARY not in error(sasl_password=[CANARY])
    with pytest.raises(ConfigurationError) as caught:
        load(security_protocol="SASL_SSL").kafka()
    assert CANARY not in str(caught.value)


SASL = {"sasl_username": "ann", "sasl_password": CANARY}
FILES = {
    "ssl_ca_location": "ca.pem",
    "ssl_certificate_location": "me.pem",
    "ssl_key_location": "me.key",
    "ssl_key_password": "pass",
}
SASL_CONFIG = {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "ann", "sasl.password": CANARY}
SSL_CONFIG = {
    "ssl.ca.location": "ca.pem",
    "ssl.certificate.location": "me.pem",
    "ssl.key.location": "me.key",
    "ssl.key.password": "pass",
}


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("PLAINTEXT", {}),
        ("SSL", SSL_CONFIG),
        ("SASL_PLAINTEXT", SASL_CONFIG),
        ("SASL_SSL", SASL_CONFIG | SSL_CONFIG),
    ],
)
def test_each_protocol_has_what_librdkafka_needs(protocol: str, expected: dict[str, str]) -> None:
    settings = load(security_protocol=protocol, bootstrap_servers="a:1,b:2", **SASL, **FILES)
    assert settings.kafka() == {"bootstrap.servers": "a:1,b:2", "security.protocol": protocol} | expected


@pytest.mark.parametrize("missing", list(SASL))
def test_sasl_without_user_or_password_is_refused(missing: str) -> None:
    given_ = {name: value for name, value in SASL.items() if name != missing}
    with pytest.raises(ConfigurationError, match="needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"):
        load(security_protocol="SASL_PLAINTEXT", **given_).kafka()


def test_more_options_are_written_with_underscores() -> None:
    assert load().kafka(group_id="g", enable_auto_commit=False) == {
        "bootstrap.servers": "127.0.0.1:9092",
        "security.protocol": "PLAINTEXT",
        "group.id": "g",
        "enable.auto.commit": False,
    }


def test_the_registry_gets_user_password_and_certificates() -> None:
    config = load(
        registry_url="https://registry",
        registry_username="ann",
        registry_password=CANARY,
        registry_ssl_ca_location="ca.pem",
    ).registry()
    assert config["url"] == "https://registry"
    assert config["basic.auth.user.info"] == f"ann:{CANARY}"
    assert config["ssl.ca.location"] == "ca.pem"
    assert "basic.auth.user.info" not in load(registry_url="https://registry").registry()


def test_without_an_address_there_is_no_registry() -> None:
    with pytest.raises(ConfigurationError, match="SCHEMA_REGISTRY_URL is not set"):
        load().registry()


DURATIONS = [name for name, field in Settings.model_fields.items() if field.annotation is timedelta]


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **{name: st.integers(1, 10**13).map(lambda ms: timedelta(milliseconds=ms)) for name in DURATIONS},
            "topic_prefix": st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True),
            "sasl_password": st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
            "partitions": st.integers(1, 1000),
            "state_dir": st.just("some where/state"),
            "registry_url": st.just("https://registry/x"),
        },
    )
)
def test_the_environment_for_a_child_says_the_same_again(given_: dict[str, Any]) -> None:
    settings = load(**given_)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.environment().items():
            patch.setenv(name, value)
        assert load() == settings


def test_a_child_process_has_its_parent_s_settings() -> None:
    settings = load(lake="s3://bucket/lake", join_window="36h", sasl_password=CANARY, topic_prefix="x.", partitions=3)
    program = "import json; from flyback.settings import load; print(json.dumps(load().environment()))"
    child = subprocess.run(
        [sys.executable, "-c", program],
        env=settings.environment() | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert json.loads(child.stdout) == settings.environment()
    assert settings.environment()["FLYBACK_JOIN_WINDOW"] == "129600000ms"


def test_every_variable_is_described_and_is_one_of_ours() -> None:
    for name, description in variables().items():
        assert name.startswith(("KAFKA_", "SCHEMA_REGISTRY_", "FLYBACK_"))
        assert description.endswith("."), name
    assert len(variables()) == len(Settings.model_fields)


def test_a_secret_in_the_settings_is_hidden_until_asked_for() -> None:
    assert isinstance(load(sasl_password=CANARY).sasl_password, SecretStr)
