"""The way of each class is counted as the stages counted it; both ends of many classes are kept."""

import pandas as pd
import pytest

from stages.lib.distributions import STATIONS, class_ways, largest_and_smallest, station_rows


def plots() -> dict[str, pd.DataFrame]:
    """Return the plots of a run in which dog has files of two published sets and no val picture."""
    split = {"label": ["cat", "cat", "cat", "dog", "dog"]}
    split |= {"split": ["train", "val", "test", "train", "test"], "images": [6, 1, 2, 3, 1]}
    return {
        "files": pd.DataFrame(
            {
                "label": ["cat", "dog", "dog"],
                "official_split": ["", "test", "train"],
                "images": [12, 1, 4],
            }
        ),
        "classes": pd.DataFrame({"label": ["cat", "dog"], "files": [12, 5], "kept": [9, 4]}),
        "split": pd.DataFrame(split),
        "balance": pd.DataFrame({"label": ["cat", "dog"], "originals": [6, 3], "children": [0, 3]}),
    }


def many(count: int) -> pd.DataFrame:
    """Return the ways of so many classes, of which each has one file fewer than that before."""
    sizes = range(1000 + count, 1000, -1)
    labels = [f"class {number:03}" for number in range(count)]
    return pd.DataFrame({"label": labels, **{station: sizes for station in STATIONS}})


def test_a_class_is_followed_from_its_files_to_what_training_sees() -> None:
    ways = class_ways(**plots())

    assert ways.to_dict("records") == [
        {"label": "cat", "files": 12, "kept": 9, "train": 6, "val": 1, "test": 2,
         "originals": 6, "children": 0, "balanced": 6},
        {"label": "dog", "files": 5, "kept": 4, "train": 3, "val": 0, "test": 1,
         "originals": 3, "children": 3, "balanced": 6},
    ]  # fmt: skip


def test_a_class_that_only_relabelled_pictures_have_counts_no_files() -> None:
    tables = plots()
    tables["split"].loc[len(tables["split"])] = ["owl", "train", 2]
    tables["balance"].loc[len(tables["balance"])] = ["owl", 2, 0]

    ways = class_ways(**tables).set_index("label")

    assert ways.loc["owl", ["files", "kept", "train", "balanced"]].tolist() == [0, 0, 2, 2]


def test_equal_classes_stand_in_the_order_of_their_names_whatever_that_of_the_rows() -> None:
    tables = plots()
    tables["files"]["images"] = [7, 3, 4]
    shuffled = {name: table.iloc[::-1] for name, table in tables.items()}

    assert list(class_ways(**tables)["label"]) == ["cat", "dog"]
    pd.testing.assert_frame_equal(class_ways(**tables), class_ways(**shuffled))


def test_each_station_tells_sizes_and_imbalance_of_the_classes_that_it_has() -> None:
    rows = {row["station"]: row for row in station_rows(class_ways(**plots()))}

    assert list(rows) == list(STATIONS)
    files = rows["files"]
    assert (files["pictures"], files["largest"], files["smallest"], files["absent"]) == (
        17,
        12,
        5,
        0,
    )
    assert files["imbalance_ratio"] == pytest.approx(2.4)
    assert (rows["balanced"]["imbalance_ratio"], rows["balanced"]["class_evenness"]) == (1, 1)
    val = rows["val"]
    assert (val["pictures"], val["smallest"], val["absent"], val["imbalance_ratio"]) == (1, 1, 1, 1)


def test_a_station_without_any_picture_has_no_row() -> None:
    ways = class_ways(**plots()).assign(val=0)

    assert [row["station"] for row in station_rows(ways)] == [
        name for name in STATIONS if name != "val"
    ]


@pytest.mark.parametrize("count", [1, 2, 24])
def test_few_classes_are_all_drawn(count: int) -> None:
    drawn = largest_and_smallest(many(count))

    assert len(drawn["largest"]) == count
    assert drawn["smallest"] == []


@pytest.mark.parametrize(("count", "limit"), [(25, 24), (200, 24), (9, 5)])
def test_of_many_classes_the_largest_and_the_smallest_are_drawn_once_each(
    count: int, limit: int
) -> None:
    drawn = largest_and_smallest(many(count), limit)

    labels = [row["label"] for row in drawn["largest"] + drawn["smallest"]]
    assert len(set(labels)) == len(labels) == limit
    assert labels[0] == "class 000"
    assert labels[-1] == f"class {count - 1:03}"


def test_the_scale_holds_the_longest_bar_also_where_children_outnumber_files() -> None:
    assert largest_and_smallest(class_ways(**plots()))["full"] == 12
    ways = class_ways(**plots()).assign(balanced=99)
    assert largest_and_smallest(ways)["full"] == 99
