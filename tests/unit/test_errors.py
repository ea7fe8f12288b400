import pytest

from ilbook.errors import UserError, unknown


def test_unknown_names_the_nearest_and_the_valid_names():
    error = unknown("profile", "lectur", ("smoke", "lecture", "full"))
    assert isinstance(error, UserError)
    assert str(error) == "unknown profile 'lectur'; nearest valid name: 'lecture' (valid: smoke, lecture, full)"


@pytest.mark.parametrize("name", ["PUSHT", "pusht-v0", "psht"])
def test_nearest_ignores_case_and_small_slips(name):
    assert "nearest valid name: 'pusht'" in str(unknown("task", name, ["avoid", "pusht"]))


def test_a_long_list_is_cut():
    text = str(unknown("method", "act", [f"method-{i}" for i in range(61)]))
    assert "and 49 more" in text and "method-12" not in text.partition("(valid")[2]


def test_nothing_to_choose_from():
    assert str(unknown("claim", "a", [])) == "unknown claim 'a'; there is no claim to choose from"


def test_a_name_that_is_no_text():
    assert "unknown profile None" in str(unknown("profile", None, ("smoke",)))
