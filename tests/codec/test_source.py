"""The source description in topology_data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.source import SourceDescription
from nnbits.codec.types import DTYPES

text = st.text(st.characters(exclude_categories=["Cs"]))
descriptions = st.builds(
    SourceDescription,
    count=st.none() | st.integers(0, 10**6),
    format=st.none() | st.text(min_size=1),
    metadata=st.dictionaries(text, text, max_size=3),
    dtypes=st.dictionaries(text, st.sampled_from(sorted(DTYPES)), max_size=3),
    shapes=st.dictionaries(text, st.lists(st.integers(0, 2**40), max_size=4).map(tuple), max_size=3),
)


@given(descriptions)
def test_round_trip(description: SourceDescription) -> None:
    written = description.to_text()
    assert "\0" not in written
    assert SourceDescription.from_text(written) == description


def test_pinned_text() -> None:
    description = SourceDescription(2, "safetensors", {"format": "pt"}, {"a": "bfloat16"}, {"b": ()})
    assert description.to_text() == (
        '{"nnbits":1,"count":2,"format":"safetensors","metadata":{"format":"pt"},'
        '"dtypes":{"a":"bfloat16"},"shapes":{"b":[]}}'
    )


@pytest.mark.parametrize("foreign", ["", "graph torch { }", '{"other": 1}', '{"nnbitsy":1}'])
def test_text_of_others_is_ignored(foreign: str) -> None:
    assert SourceDescription.from_text(foreign) == SourceDescription()


@pytest.mark.parametrize(
    "body",
    [
        "1",
        "2}",
        '1,"unknown":1}',
        '1,"count":-1}',
        '1,"count":true}',
        '1,"format":3}',
        '1,"metadata":[]}',
        '1,"metadata":{"a":1}}',
        '1,"dtypes":{"a":"float7"}}',
        '1,"shapes":{"a":3}}',
        '1,"shapes":{"a":[-1]}}',
        '1,"shapes":{"a":[1.5]}}',
        '1,"shapes":[]}',
        '1,"format":"x"} rest',
        '1,"metadata":' + '{"a":' * 100_000,
    ],
    ids=lambda body: body[:24],
)
def test_damage_is_refused(body: str) -> None:
    with pytest.raises(NnbitsError) as caught:
        SourceDescription.from_text('{"nnbits":' + body)
    assert caught.value.code is ReasonCode.METADATA
