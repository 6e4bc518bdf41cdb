"""Every rule that would otherwise end a start on the GPU or spoil its answers, checked on a CPU."""

from convert.verify.report import Finding, Report, Rule, Verdict
from convert.verify.run import verify
from convert.verify.staged import demand

__all__ = ["Finding", "Report", "Rule", "Verdict", "demand", "verify"]
