"""The tiny package, served once a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from service import served


@pytest.fixture(scope="session")
def service(package_folder) -> Iterator[str]:
    with served(
        package_folder, "--max-images", "5", "--max-megabytes", "1", "--max-megapixels", "2", "--max-requests", "4"
    ) as url:
        yield url
