"""What exists because of the papers: published tables, claims, their authors' code, the book's figures."""
