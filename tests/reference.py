"""Another name for `helpers.reference`, until every test imports it from there."""

from helpers.reference import *  # noqa: F403
