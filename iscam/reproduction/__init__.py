"""The papers' reproduction: published tables, claims, the authors' code, and the book's tables and figures."""
