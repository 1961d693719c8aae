"""The order of stages by the names of the classes."""

import pytest

from gyrus.datasets.class_order import parse_order, recognise_order, stated_order
from gyrus.errors import ConfigError

STAGES = [
    "NonDemented VeryMildDemented MildDemented ModerateDemented",
    "Non_Demented Very_Mild_Demented Mild_Demented Moderate_Demented",
    "non-demented very-mild mild moderate-demented",
    "no~dementia very~mild~dementia mild~dementia moderate~dementia",
    "No~Impairment Very~Mild~Impairment Mild~Impairment Moderate~Impairment",
    "CN SMC EMCI MCI LMCI AD",
    "CN MCI Dementia",
    "Cognitively~Normal Mild~Cognitive~Impairment Alzheimer's~Disease",
    "Final~CN~JPEG Final~EMCI~JPEG Final~MCI~JPEG Final~LMCI~JPEG Final~AD~JPEG",
    "Grade~1 Grade~2 Grade~3 Grade~4",
    "grade_I grade_II grade_III grade_IV",
    "I II III IV",
    "WHO~II WHO~III WHO~IV",
    "KL0 KL1 KL2 KL3 KL4",
    "0 0.5 1 2 3",
    "0.0 0.5 1.0 2.0",
    "CDR-0 CDR-0.5 CDR-1",
    "mild moderate severe",
    "none mild moderate severe",
    "low medium high",
    "early mid late",
]


@pytest.mark.parametrize("stages", STAGES)
def test_known_orders_are_recognised_in_their_spellings(stages: str) -> None:
    names = tuple(name.replace("~", " ") for name in stages.split())
    for given in (sorted(names), names[::-1]):
        found = recognise_order(given)
        assert found is not None
        assert found[0] == names


@pytest.mark.parametrize(
    "names",
    [
        "glioma meningioma pituitary",  # kinds, not stages
        "AD CN FTD",  # one class is no stage
        "AD CN",  # the order of two changes no score
        "0 1 2 3",  # numbers may be codes of anything
        "1 2 3 4",
        "T1 T2 FLAIR",
        "AD Dementia CN",  # two names of one stage
        "mild low early",  # stages of different orders
        "nondemented converted demented",
    ],
)
def test_other_classes_have_no_order(names: str) -> None:
    assert recognise_order(names.split()) is None


def test_a_stated_order_is_that_of_the_data_in_the_spelling_of_the_data() -> None:
    assert parse_order(" a < b<c ") == parse_order("a,b,c") == ("a", "b", "c")
    assert stated_order(("Big_one", "mid", "Small"), ("small", "mid", "big one")) == ("Small", "mid", "Big_one")


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (("a", "b"), "missing: c"),
        (("a", "b", "c", "d"), "no class of the data: d"),
        (("a", "b", "c", "A"), "named twice: a"),
    ],
)
def test_an_order_that_does_not_match_the_classes_is_an_error(order: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        stated_order(("a", "b", "c"), order)
    with pytest.raises(ConfigError, match="CN<MCI<AD"):
        parse_order("a<<b")
