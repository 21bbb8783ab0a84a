"""What the Faust app is told of the brokers; what it does is in test_worker.py, in a worker's process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flyback.errors import ConfigurationError
from flyback.settings import Settings
from flyback.streams import app

ROOT = Path(__file__).parents[2]


def test_without_security_faust_gets_no_credentials() -> None:
    assert app.credentials(Settings()) is None


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_faust_logs_in_as_every_other_client_does(protocol: str) -> None:
    found = app.credentials(
        Settings(
            security_protocol=protocol, sasl_mechanism="SCRAM-SHA-256", sasl_username="ann", sasl_password="secret"
        )
    )
    assert (found.username, found.password) == ("ann", "secret")
    assert found.mechanism.value == "SCRAM-SHA-256"
    assert found.protocol.value == protocol
    assert (found.ssl_context is not None) == (protocol == "SASL_SSL")
    assert "secret" not in repr(found)


def test_faust_checks_the_brokers_certificate() -> None:
    found = app.credentials(Settings(security_protocol="SSL"))
    assert found.protocol.value == "SSL"
    assert found.context.check_hostname


def test_a_missing_certificate_file_is_said_by_the_names_of_the_variables(tmp_path: Path) -> None:
    settings = Settings(security_protocol="SSL", ssl_ca_location=tmp_path / "none.pem")
    with pytest.raises(ConfigurationError, match="KAFKA_SSL_CA_LOCATION"):
        app.credentials(settings)


def test_addresses_are_given_to_faust_without_a_protocol() -> None:
    settings = Settings(bootstrap_servers="SASL_SSL://a:1, b:2")
    assert app.addresses(settings) == ["a:1", "b:2"]


def test_app_is_the_only_file_that_imports_faust() -> None:
    importing = [
        str(path.relative_to(ROOT))
        for folder in ("flyback", "streams", "schemas", "sinks", "dashboards")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(import|from) faust\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert importing == ["streams/app.py"]


def test_the_engine_does_not_wait_for_faust_to_be_imported() -> None:
    code = "import sys; import flyback.streams.worker; sys.exit('faust.app' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
