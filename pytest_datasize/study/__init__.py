"""A study: plan, measure, keep; and what is compared with it."""
