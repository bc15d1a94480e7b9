"""The reproduction of the papers: published tables, claims, the authors' code, and the book's tables and figures."""
