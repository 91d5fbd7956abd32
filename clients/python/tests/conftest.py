"""A model of a server: `PATCHBAY_URL` names one that has SmolLM2 as `smollm2`."""

import os

import pytest

from patchbay import Patchbay, StandardizedTransformer


@pytest.fixture(scope="session")
def url():
    found = os.environ.get("PATCHBAY_URL")
    if not found:
        pytest.skip("PATCHBAY_URL names no server")
    return found


@pytest.fixture(scope="session")
def bay(url):
    with Patchbay(url) as client:
        yield client


@pytest.fixture()
def model(url):
    return StandardizedTransformer("smollm2", base_url=url)
