"""Pictures: what a reader could not read."""

from itertools import combinations

from eval.report import figures


def test_names_of_arms_that_cost_the_same_do_not_overlap():
    points = {"none": (0.0, 0.6754), "random": (0.0, 0.6751), "bm25": (0.0, 0.6748), "llm": (0.08, 0.65)}
    with figures._figure(4.2) as figure:
        axes = figure.add_subplot()
        for spent, score in points.values():
            axes.plot([spent], [score], marker="o")
        figures._name(axes, points)
        figure.draw_without_rendering()
        boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
        assert boxes.keys() == points.keys()
        assert not any(one.overlaps(other) for one, other in combinations(boxes.values(), 2))
        inside = axes.get_window_extent()
        assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes.values())
