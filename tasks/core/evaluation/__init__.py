"""Prompts, answers, verdicts and scores."""
