"""A good workspace passes every rule; damaged in one way, it breaks exactly that rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from convert.errors import ConvertError
from convert.verify import Report, verify
from convert.verify.engine_rules import divisible
from convert.verify.table import RULES
from convert.verify.view import View
from tests.convert.verify import made
from tests.convert.verify.damages import DAMAGES, SEALED_WITH, Damage

TINY = ("tiny-llama", "tiny-qwen2", "tiny-qwen2-tied", "tiny-internlm2")


def checked(folder: Path, tp: int | None = None) -> Report:
    return verify(folder, tp=tp, loader=False)


def told(report: Report) -> str:
    return "\n".join(f"{rule.number} {rule.name}: {finding}" for rule, finding in report.findings)


@pytest.mark.parametrize("make", [made.plain, made.awq])
def test_a_good_workspace_passes(tmp_path: Path, make) -> None:
    report = checked(make(tmp_path / "good"))
    assert report.ok, told(report)
    assert not any(
        verdict.skipped for verdict in report.verdicts if verdict.rule.number not in (5, 23)
    )


def test_the_embedded_base_passes(tmp_path: Path) -> None:
    report = checked(made.adopted(made.BASE, tmp_path / "mini"))
    assert report.ok, told(report)


@pytest.mark.parametrize("name", TINY)
def test_models_of_other_makers_pass(tmp_path: Path, shared: Path, name: str) -> None:
    report = checked(made.adopted(shared / "data" / "models" / name, tmp_path / name))
    assert report.ok, told(report)


def test_their_real_heads_have_no_kernel(tmp_path: Path, shared: Path) -> None:
    folder = made.adopted(shared / "data" / "models" / "tiny-llama", tmp_path / "tiny")
    made.edit(folder / "config.json", num_attention_heads=4, num_key_value_heads=2, head_dim=32)
    assert checked(made.seal(folder)).failed == (11,)


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_damage_breaks_exactly_its_rule(tmp_path: Path, damage: Damage) -> None:
    folder = made.awq(tmp_path / "it") if damage.quantised else made.plain(tmp_path / "it")
    damage.do(folder)
    if damage.resealed:
        made.seal(folder, **(SEALED_WITH if damage.quantised else {}))
    report = checked(folder, damage.tp)
    assert report.failed == (damage.rule,), told(report)
    assert not report.ok
    for rule, finding in report.findings:
        assert rule.reason
        assert finding.where
        assert finding.what
        assert finding.remedy.endswith((".", "?"))


def test_every_rule_has_a_damage() -> None:
    assert {damage.rule for damage in DAMAGES} == {rule.number for rule in RULES} - {24}


def test_pickled_weights_break_what_they_break(tmp_path: Path) -> None:
    folder = made.plain(tmp_path / "it")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert checked(made.seal(folder)).failed == (6, 7, 22)


def test_an_unknown_method_is_refused(tmp_path: Path) -> None:
    folder = made.awq(tmp_path / "it")
    made.edit(folder / "config.json", quantization_config={"quant_method": "smooth_quant"})
    made.edit(folder / "engine.json", model_format="smooth_quant")
    assert checked(made.seal(folder, **SEALED_WITH)).failed == (2,)


def test_two_ranks_can_share_the_plain_one(tmp_path: Path) -> None:
    assert checked(made.plain(tmp_path / "it"), tp=2).ok


def test_three_ranks_are_no_ranks(tmp_path: Path) -> None:
    assert checked(made.plain(tmp_path / "it"), tp=3).failed == (12, 13)


def test_key_value_heads_are_dealt_or_repeated_whole(tmp_path: Path) -> None:
    view = View(made.plain(tmp_path / "it"), tp=2)
    view.geometry = replace(view.geometry, kv_heads=3)
    assert any("3 key-value heads can be" in str(finding) for finding in divisible(view))


def test_equal_heads_under_a_tie_are_only_waste(tmp_path: Path) -> None:
    folder = made.plain(tmp_path / "it")
    made.edit_tensors(
        folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"]})
    )
    assert checked(made.seal(folder)).ok


def test_scaled_positions_reach_further(tmp_path: Path) -> None:
    folder = made.plain(tmp_path / "it")
    made.edit(folder / "engine.json", session_len=4096)
    made.edit(folder / "config.json", rope_scaling={"rope_type": "yarn", "factor": 4.0})
    assert checked(made.seal(folder)).ok
    original = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
    made.edit(folder / "config.json", rope_scaling=original)
    assert checked(made.seal(folder)).failed == (17,)


def test_a_template_may_mark_what_is_learned_from(tmp_path: Path) -> None:
    folder = made.plain(tmp_path / "it")
    text = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% generation %}{{ m.content }}"
        "{% endgeneration %}<|im_end|>\n{% endfor %}"
    )
    (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
    made.edit(folder / "tokenizer_config.json", chat_template=...)
    assert checked(made.seal(folder)).ok


def test_a_hostile_template_is_contained(tmp_path: Path) -> None:
    folder = made.plain(tmp_path / "it")
    text = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
    made.edit(folder / "tokenizer_config.json", chat_template=text)
    report = checked(made.seal(folder))
    assert report.failed == (16,)
    assert "does not render" in told(report)


def test_any_loss_may_be_accepted(tmp_path: Path) -> None:
    folder = made.awq(tmp_path / "it")
    far = made.FIDELITY | {"divergence": 9.0, "limit": None}
    assert checked(made.seal(folder, fidelity=far)).ok


def test_no_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="There is no workspace"):
        verify(tmp_path / "nowhere")


def test_the_report_can_be_read_by_programs(tmp_path: Path) -> None:
    folder = made.plain(tmp_path / "it")
    made.edit(folder / "engine.json", quant_policy=16)
    found = checked(made.seal(folder)).as_json()
    assert found["ok"] is False
    broken = [rule for rule in found["rules"] if rule["findings"]]
    assert [rule["number"] for rule in broken] == [19]
    assert set(broken[0]["findings"][0]) == {"where", "what", "remedy"}
