"""The tree of errors that a caller may catch."""

import inspect

import pytest

from tdm_core import errors

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value)]


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_error_is_of_the_tree_drawn_in_the_docstring_and_says_when_it_occurs(error):
    assert issubclass(error, errors.TDMError)
    assert error.__name__ in errors.__doc__
    assert error.__doc__


def test_drawn_tree_has_the_shape_of_the_classes():
    drawn = [line for line in errors.__doc__.splitlines() if "──" in line]
    ancestors = ["TDMError"]
    for line in drawn:
        before, _, rest = line.partition("── ")
        depth = (len(before) + 3) // 4
        ancestors[depth:] = [rest.split()[0]]
        assert getattr(errors, ancestors[depth]).__bases__ == (getattr(errors, ancestors[depth - 1]),)
    assert len(drawn) + 1 == len(CLASSES)
