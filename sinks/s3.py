"""DuckDB on S3 without its httpfs extension: Arrow's S3 client, by way of fsspec."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import pyarrow.fs
from fsspec.implementations.arrow import ArrowFSWrapper  # type: ignore[import-untyped]


class _S3(ArrowFSWrapper):  # type: ignore[misc]
    protocol = ("s3", "s3a")  # which addresses DuckDB sends here


def filesystem() -> object:
    """A filesystem for `DuckDBPyConnection.register_filesystem`, configured by the AWS_* variables."""
    options = {}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
        parts = urlsplit(endpoint)
        options = {"endpoint_override": parts.netloc, "scheme": parts.scheme}
    if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        options["region"] = region
    return _S3(pyarrow.fs.S3FileSystem(**options))
