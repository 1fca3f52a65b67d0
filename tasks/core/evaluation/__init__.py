"""Prompts, answers, verdicts and scores."""

# Of the report for people.
TEMPLATE = "evaluation.md.j2"
