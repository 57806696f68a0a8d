"""Result tables of README and pages: filled from the ledger, up to date, and clear about bad templates."""

from __future__ import annotations

import pytest

from experiments.support.errors import ResultsError
from experiments.support.files import REPOSITORY
from scripts import fill_tables
from scripts.fill_tables import Found, filled, number, shown

LEDGER = """claim,experiment,value,low,high,n,seeds,preset,data,command,commit
a.ratio,a,0.84,0.81,0.871,20,5-9,laptop,real,make a,abc
a.ratio,a,1.23,0.54,1.92,20,5-9,laptop,made up,make a,abc
a.size,a,3.0,,,7,5,laptop,real,make a,abc
a.size,a,4.0,,,7,5,paper,real,make a,abc
"""
RATIOS = """method,by,ratio,low,high,limit,over
one,x,,200.0,900.0,346.9,0.5
two,x,0.334,0.2,3.67,,1.5
three,y,1.0,0.5,2.0,,2.5
"""


@pytest.fixture
def root(tmp_path):
    """A repository with one page, one template and some results."""
    (tmp_path / "results" / "tables").mkdir(parents=True)
    (tmp_path / "docs" / "tables").mkdir(parents=True)
    (tmp_path / "results" / "claims.csv").write_text(LEDGER)
    (tmp_path / "results" / "tables" / "ratios.csv").write_text(RATIOS)
    (tmp_path / "README.md").write_text("# A\n\n<!-- table:begin one -->\nold\n<!-- table:end -->\n\nstays\n")
    fill_tables.table.cache_clear()
    yield tmp_path
    fill_tables.table.cache_clear()


def made(root, template):
    (root / "docs" / "tables" / "one.md").write_text(template)
    ((path, text),) = filled(root)
    assert path == root / "README.md"
    return text


def test_every_page_is_up_to_date():
    """`python scripts/fill_tables.py` writes what is missing."""
    pages = dict(filled(REPOSITORY))
    assert {path.name for path in pages} == {
        "README.md", "production.md", "safetygym.md", "language.md", "guarded_chat.md", "theory.md",
        "tailored_training.md", "scale.md", "reliability.md",
    }  # fmt: skip
    assert [path.name for path, text in pages.items() if text != path.read_text()] == []


def test_what_stands_between_the_marks_is_replaced_and_nothing_else(root):
    text = made(root, "| {{ claim a.ratio real | 2f promise }} | {{ claim a.ratio made_up | 2f promise }} |")
    assert text == (
        "# A\n\n<!-- table:begin one -->\n"
        "| 0.84 [0.81, 0.87], kept | 1.23 [0.54, 1.92], exceeded, the interval holds 1 |\n"
        "<!-- table:end -->\n\nstays\n"
    )
    (root / "README.md").write_text(text)
    assert dict(filled(root))[root / "README.md"] == text


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("claim a.size real laptop", "3.0"),
        ("claim a.size real paper | 0f", "4"),
        ("claim a.ratio real | n", "20"),
        ("claim a.ratio real | 0f times=100 alone unit=_%", "84 %"),
        ("row tables/ratios.csv ratio method=one | ratio", "at least 346"),
        ("row tables/ratios.csv ratio method=two | ratio", "0.33 [0.20, 3.7]"),
        ("max tables/ratios.csv over by=x", "1.5"),
        ("min tables/ratios.csv over", "0.50"),
        ("count tables/ratios.csv over>1 | 0f", "2"),
        ("count tables/ratios.csv by=x over>1 | 0f", "1"),
    ],
)
def test_fields(root, field, expected):
    assert f"\n{expected}\n" in made(root, f"{{{{ {field} }}}}")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("claim a.none real", "0 rows have claim=a.none, data=real; one is needed"),
        ("claim a.size real", "2 rows have claim=a.size, data=real; one is needed"),
        ("claim a.size real laptop | 2x", "'2x' is no word for how to show a number"),
        ("row tables/none.csv ratio method=one", "none.csv is missing"),
        ("row tables/ratios.csv rate method=one", "has no column 'rate'"),
        ("row tables/ratios.csv ratio robot=car", "there is no column 'robot'"),
        ("sum tables/ratios.csv ratio", "claim, row, max, min or count"),
    ],
)
def test_bad_fields_are_named(root, field, message):
    with pytest.raises(ResultsError, match=r"one\.md: \{\{") as error:
        made(root, f"{{{{ {field} }}}}")
    assert message in str(error.value)


def test_a_missing_template_is_named(root):
    with pytest.raises(ResultsError, match=r"one\.md is missing"):
        list(filled(root))


@pytest.mark.parametrize(
    ("low", "value", "high", "said"),
    [
        (0.5, 0.8, 1.0, "kept"),
        (0.5, 0.8, 1.01, "not seen to break"),
        (0.5, 1.2, 2.0, "exceeded, the interval holds 1"),
        (1.1, 1.2, 2.0, "broken"),
    ],
)
def test_kept_is_said_only_where_the_upper_limit_is_at_most_one(low, value, high, said):
    assert shown(Found(value, low, high), ["word"]) == said


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.9959, "2s", "1.0"),
        (0.0084, "2s", "0.0084"),
        (16.8, "2s", "17"),
        (138.2, "2s", "138"),
        (-0.04, "1f", "0.0"),
        (-1.96, "1f", "−2.0"),
        (12345.6, "0f", "12,346"),
        (0.0, "2s", "0"),
    ],
)
def test_numbers(value, digits, expected):
    assert number(value, digits) == expected
    assert number(949.6, "0f", down=True) == "949"
    assert number(0.41, "1f", signed=True) == "+0.4"
